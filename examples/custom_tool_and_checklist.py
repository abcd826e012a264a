"""A tool and a checklist of one's own: what the checklist pays, turn by turn."""

import gymnasium as gym

import agentgym


@agentgym.tool
def note(text: str) -> str:
    """Keep a note.  text: one fact, in a sentence."""
    return f"noted: {text}"


careful = agentgym.Checklist("careful", assignment="step")
careful.rule("looked", call="search")
careful.rule("noted", call="note", after=["looked"], weight=2)
careful.program("kept_short", lambda view: view.answer is not None and len(view.answer.split()) <= 5, after=["noted"])
agentgym.register_checklist(careful)

env = gym.make("SearchQA-v0", tools=[note], reward="answer_em + 0.2*checklist:careful")
env.reset(seed=0)
for action in (
    "<note>too early: nothing was looked up</note>",
    "<search>who wrote it</search>",
    "<search>once more pays nothing</search>",
    "<note>It was somebody.</note>",
    "<answer>somebody</answer>",
):
    observation, reward, terminated, truncated, info = env.step(action)
    score = info["rewards"]["checklist:careful"]
    print(f"{action:<50} checklist {score['value']:+.3f}  {score['reason']}")
