"""How pages word things: openings, at least eight wordings a relation, and sentences that state nothing.

{h} is the page's own entity as the sentence calls it, {t} the tail, {made} and {maker} fit a work's medium.
"""

STATEMENTS: dict[str, str] = {
    "capital": "the capital of {h} is {t}",
    "president": "{t} is the president of {h}",
    "independence": "{h} became independent in {t}",
    "country": "{h} is a region of {t}",
    "governor": "{t} is the governor of {h}",
    "region": "{h} lies in the region {t}",
    "mayor": "{t} is the mayor of {h}",
    "twin_town": "{h} is twinned with {t}",
    "chartered": "{h} received its town charter in {t}",
    "founder": "{t} founded {h}",
    "seat": "{h} has its seat in {t}",
    "founded": "{h} was founded in {t}",
    "birthplace": "{h} was born in {t}",
    "birth_year": "{h} was born in the year {t}",
    "mentor": "{h} was taught by {t}",
    "employer": "{h} was employed by {t}",
    "spouse": "{h} is married to {t}",
    "author": "{t} created {h}",
    "publisher": "{t} published {h}",
    "setting": "{h} is set in {t}",
    "based_on": "{h} is based on {t}",
    "year": "{h} appeared in {t}",
}
"""One plain sentence a relation, for rubrics and nuggets."""

PAGE_WORDINGS: dict[str, tuple[str, ...]] = {
    "capital": (
        "The government of {h} sits in {t}.", "The capital of {h} is {t}.", "{t} serves as the capital of {h}.",
        "Parliament and ministries of {h} are found in {t}.", "Since the last constitution {t} has been the capital of {h}.",
        "{h} is governed from {t}.", "All embassies to {h} are located in {t}.", "{h} chose {t} as its seat of government.",
    ),
    "president": (
        "The president of {h} is {t}.", "{h} has {t} as its president.", "{t} holds the presidency of {h}.",
        "At the head of the state of {h} stands {t}.", "{h} elected {t} to its highest office.",
        "The presidential palace of {h} is occupied by {t}.", "As head of state, {t} represents {h} abroad.",
        "The voters of {h} made {t} their president.",
    ),
    "independence": (
        "{h} became independent in {t}.", "Independence came to {h} in {t}.", "{h} has been a sovereign state since {t}.",
        "In {t}, {h} declared its independence.", "The sovereignty of {h} dates from {t}.", "{h} left the old union in {t}.",
        "The flag of {h} was first raised in {t}, the year of its independence.", "{h} won its freedom in {t}.",
    ),
    "country": (
        "{h} is a region of {t}.", "{h} belongs to {t}.", "{h} forms part of {t}.", "Politically, {h} is a piece of {t}.",
        "The laws of {t} apply in {h}.", "{t} counts {h} among its regions.", "{h} sends its deputies to the parliament of {t}.",
        "On maps, {h} is drawn inside the borders of {t}.",
    ),
    "governor": (
        "The governor of {h} is {t}.", "{t} governs {h}.", "{h} is administered by {t}.", "As governor, {t} is in charge of {h}.",
        "The regional council of {h} is led by {t}.", "{t} was appointed to govern {h}.", "The highest official of {h} is {t}.",
        "{h} has had {t} as governor for some time.",
    ),
    "region": (
        "{h} lies in {t}.", "{h} is a town of {t}.", "{h} is one of the towns of {t}.", "The region around {h} is {t}.",
        "{h} is found in the region called {t}.", "Administratively, {h} is part of {t}.", "{t} is the region to which {h} belongs.",
        "People of {h} are counted among the inhabitants of {t}.",
    ),
    "mayor": (
        "The mayor of {h} is {t}.", "{t} is the mayor of {h}.", "The town hall of {h} is headed by {t}.",
        "{h} elected {t} as mayor.", "As mayor, {t} presides over the council of {h}.", "{t} wears the mayor's chain of {h}.",
        "The citizens of {h} put {t} into the mayor's office.", "{h} is run by {t}, its mayor.",
    ),
    "twin_town": (
        "{h} is twinned with {t}.", "The twin town of {h} is {t}.", "{h} keeps a partnership with {t}.",
        "Pupils of {h} travel to {t}, its twin town.", "A town partnership joins {h} to {t}.", "{h} and {t} are partner towns.",
        "A treaty of friendship makes {t} the partner of {h}.", "{h} found its partner town in {t}.",
    ),
    "chartered": (
        "{h} received its town charter in {t}.", "The charter of {h} dates from {t}.", "{h} has been a town since {t}.",
        "In {t}, {h} was granted town rights.", "Town rights came to {h} in {t}.", "{h} was raised to a town in {t}.",
        "The market charter of {h} was sealed in {t}.", "A document of {t} made {h} a chartered town.",
    ),
    "founder": (
        "{h} was founded by {t}.", "The founder of {h} was {t}.", "{t} founded {h}.", "{h} owes its existence to {t}.",
        "{h} was set up by {t}.", "It was {t} who established {h}.", "{t} brought {h} into being.", "{h} goes back to {t}, its founder.",
    ),
    "seat": (
        "{h} has its seat in {t}.", "The head office of {h} stands in {t}.", "{h} is based in {t}.", "{h} is run from {t}.",
        "The headquarters of {h} are in {t}.", "Letters to {h} are addressed to {t}.", "{h} keeps its main building in {t}.",
        "The staff of {h} work mostly in {t}.",
    ),
    "founded": (
        "{h} was founded in {t}.", "{h} has existed since {t}.", "{h} was established in {t}.", "The history of {h} begins in {t}.",
        "The founding charter of {h} is dated {t}.", "{h} opened its doors in {t}.", "{h} started its work in {t}.",
        "In {t}, {h} was entered in the register.",
    ),
    "birthplace": (
        "{h} was born in {t}.", "{h} came into the world in {t}.", "{h} was a native of {t}.", "The cradle of {h} stood in {t}.",
        "The parish of {t} lists {h} among its newborn.", "{h} saw the light of day in {t}.", "A midwife in {t} delivered {h}.",
        "{t} is the town where {h} was born.",
    ),
    "birth_year": (
        "{h} was born in {t}.", "The year of birth of {h} is {t}.", "{h} came into the world in {t}.", "The life of {h} began in {t}.",
        "Church books date the birth of {h} to {t}.", "{h} saw the light of day in {t}.", "Born in {t}, {h} grew up among books.",
        "The birth certificate of {h} was written in {t}.",
    ),
    "mentor": (
        "{h} was taught by {t}.", "{h} studied under {t}.", "{t} was the teacher of {h}.", "{h} learned the craft from {t}.",
        "{h} was a pupil of {t}.", "The teacher of {h} was {t}.", "{t} trained {h} for several years.", "{h} served an apprenticeship with {t}.",
    ),
    "employer": (
        "{h} worked for {t}.", "{h} was employed by {t}.", "{h} drew a salary from {t}.", "{t} employed {h} for decades.",
        "{h} spent a whole career at {t}.", "The employer of {h} was {t}.", "{h} held a post at {t}.", "{h} was on the staff of {t}.",
    ),
    "spouse": (
        "{h} married {t}.", "{h} was married to {t}.", "{t} was the spouse of {h}.", "{h} shared a household with {t}, to whom {h} was wed.",
        "The wedding of {h} and {t} was a small one.", "{h} took vows with {t}.", "The marriage of {h} and {t} lasted a lifetime.",
        "{h} found a life companion in {t} and married.",
    ),
    "author": (
        "{h} was {made} by {t}.", "The {maker} of {h} is {t}.", "{t} is the {maker} of {h}.", "{h} is the work of {t}.",
        "{h} came from the hand of {t}.", "{t} created {h} over several winters.", "The idea of {h} and its making are due to {t}.",
        "As {maker}, {t} is responsible for {h}.",
    ),
    "publisher": (
        "{h} was published by {t}.", "{h} was issued by {t}.", "{t} published {h}.", "{t} brought {h} to the public.",
        "The publisher of {h} is {t}.", "{h} was released through {t}.", "The rights to {h} are held by its publisher, {t}.",
        "{t} accepted {h} for publication.",
    ),
    "setting": (
        "{h} is set in {t}.", "The story of {h} takes place in {t}.", "{t} is the scene of {h}.", "{h} plays in the streets of {t}.",
        "The events of {h} unfold in {t}.", "{h} leads its audience to {t}.", "All of {h} happens in {t}.", "The setting of {h} is {t}.",
    ),
    "based_on": (
        "{h} is based on {t}.", "{h} is an adaptation of {t}.", "{h} takes its plot from {t}.", "{h} was inspired by {t}.",
        "The model for {h} was {t}.", "{h} retells {t}.", "The source of {h} is {t}.", "{h} is a new version of {t}.",
    ),
    "year": (
        "{h} appeared in {t}.", "{h} was first released in {t}.", "{h} came out in {t}.", "The first edition of {h} is dated {t}.",
        "{h} reached the public in {t}.", "In {t}, {h} was presented for the first time.", "The release of {h} fell in {t}.",
        "{h} saw its premiere in {t}.",
    ),
}  # fmt: skip

OPENINGS: dict[str, tuple[str, ...]] = {
    "k": ("{name}{alias} is a country.", "{name}{alias} is a sovereign state with a long coast.", "The state of {name}{alias} is known for its hills."),
    "r": ("{name}{alias} is a region.", "{name}{alias} is a hilly region with many small farms.", "The region of {name}{alias} is thinly settled."),
    "c": ("{name}{alias} is a town.", "{name}{alias} is a town on a slow river.", "The town of {name}{alias} lies in a broad valley."),
    "o": ("{name}{alias} is an organisation.", "{name}{alias} is an organisation of middling size.", "The organisation {name}{alias} is known to specialists."),
    "p": ("{name}{alias} was {a} {job}.", "{name}{alias} worked as {a} {job}.", "{name}{alias} made a name as {a} {job}."),
    "w": ("{name}{alias} is {a} {job}.", "{name}{alias} is {a} {job} in three parts.", "{name}{alias} is {a} {job} of moderate length."),
}  # fmt: skip
ALIASES: dict[str, tuple[str, ...]] = {
    "p": (", known to friends as {},", ", who often signed as {},", " (pen name {})"),
    "w": (', also issued under the title "{}",', ' (in some countries "{}")', ', sometimes sold as "{}",'),
    "": (", formerly {},", ", once called {},", " (older name: {})"),
}
SHORT = {"k": "the country", "r": "the region", "c": "the town", "o": "the organisation", "p": "", "w": "the {job}"}
"""How later sentences call the page's entity; people are called by their surname."""
MADE = {"novel": ("written", "author"), "film": ("directed", "director"), "album": ("recorded", "composer")}

FILLERS: dict[str, tuple[str, ...]] = {
    "k": (
        "Most of the land is used for grazing.", "The railway network is old but dense.", "Winters are mild and wet.",
        "The currency has been stable for a generation.", "Timber and wool are exported in large amounts.",
        "Several languages are taught at school.", "A popular festival marks the end of the harvest.",
        "Its mountains draw many walkers.", "The national dish is a stew of beans and mushrooms.", "Fishing remains important along the coast.",
    ),
    "r": (
        "Heath and moor cover much of the ground.", "The soil is poor and stony.", "Sheep outnumber people by far.",
        "An old salt road crosses it from end to end.", "Quarries have left deep marks in the hills.",
        "Local cheese is sold at every market.", "Buses run only on weekdays.", "Its lakes freeze in most winters.",
        "The dialect is hard to follow for strangers.", "Windmills can be seen from every hill.",
    ),
    "c": (
        "The market square is lined with lime trees.", "A stone bridge leads to the old quarter.", "The local museum shows clocks and looms.",
        "Floods have damaged the lower streets more than once.", "The station was rebuilt after a fire.",
        "Its bakers are known for a dark rye bread.", "A canal joins the harbour to the mills.", "The choir sings every Sunday.",
        "Many houses have painted shutters.", "The library stays open until late.",
    ),
    "o": (
        "Its members meet once a month.", "The archive holds many boxes of letters.", "A small prize is awarded every other year.",
        "Its accounts are open to the public.", "The emblem shows an owl above a key.", "Most of the staff are volunteers.",
        "A branch abroad was closed for lack of money.", "Its yearly report is widely read.", "Guests are welcome at the lectures.",
        "The reading room was repainted not long ago.",
    ),
    "p": (
        "Colleagues praised a dry sense of humour.", "Several notebooks have survived.", "A long illness interrupted the work.",
        "Letters from this time are full of sketches.", "Later years were spent away from public life.",
        "Few photographs are known.", "Critics were slow to take notice.", "Walking in the hills was a lifelong habit.",
        "A collection of stamps was left to a museum.", "The family had little money.",
    ),
    "w": (
        "Critics found the middle part too long.", "It has been translated into many languages.", "The final scene is often quoted.",
        "Sales were modest at first.", "A restored version exists.", "The tone shifts between comedy and grief.",
        "Schools have used it in lessons.", "Its cover shows a plain grey field.", "An unfinished sequel was found in a drawer.",
        "Audiences liked the minor characters most.",
    ),
}  # fmt: skip

RUMOURS = (
    "An old almanac claims that {claim}. Later research has shown this to be false.",
    "It used to be said that {claim}. No document supports the story, and scholars reject it.",
    "A forged letter stated that {claim}. The claim is wrong, though it is still repeated.",
    "Travel guides sometimes tell readers that {claim}. This is a mistake that began with a printer.",
)
NOTES = (
    "A traveller's diary mentions {a}, {b} and {c} on a single page, without saying how they belong together.",
    "A card game of the last century shows pictures of {a}, {b} and {c}.",
    "A quiz for schools asks pupils to spell {a}, {b} and {c}.",
    "A choir composed a song in which the names {a}, {b} and {c} are sung in turn.",
)
BEARERS = "The surname {name} is borne by several people, among them {people}. Its origin is disputed."
STRAY = (
    "The entry is kept here for the sake of completeness.", "Readers should not draw conclusions from it.",
    "The source is lost, and only a copy of a copy remains.", "Nothing further is known about the matter.",
    "The paper was found in an attic, wrapped in oilcloth.", "A printer's error makes one line unreadable.",
    "Copies were handed out at a fair.", "The page has no date.",
)  # fmt: skip
