"""The search itself, compiled by numba: exact top k over tiles, with early termination. It releases the GIL.

The k-th best score so far is the bar. In a tile that holds a query term, postings are summed twice: coarsely for many
passages, exactly for few. The coarse sum of a passage is a byte: for each posting the most that a term occurring so
often can give, in units of the query's weight, rounded up. Terms are added to it, those first that lower most, for
their postings, what a passage without any of them may reach; once that is under the bar, only passages of those terms
can enter. More terms are added as long as that is cheaper than looking the passages that are left up in them by binary
search. These are then scored exactly, term after term, until they fall under the bar or enter. While fewer than k
passages are known there is no bar, and postings are summed exactly. The result equals that of an exhaustive scan, ties
included (earlier passages first).

Source: Turtle and Flood, "Query evaluation: strategies and optimizations" (MaxScore), and Ding and Suel, "Faster
top-k document retrieval using block-max indexes"; here over tiles of passages instead of blocks of postings, term at
a time inside a tile, with sums of rounded bounds before the exact ones.
"""

import numpy as np

from agentgym.retrieval.lexical.heap import best_first, compiled, kth, offer

PROBE = 60
"""Postings that are added coarsely in the time of one look-up."""
STEP = 16
"""Postings that are added in the time that it takes to begin with a term."""
SUM = 32
"""Postings that are summed exactly in the time of one look-up."""
LEAST = 1e-30
"""What a term adds at least: in a passage of millions of words float32 rounds its share to 0, and 0 means untouched."""
FIRST = 8_192
"""Passages of a large first tile that are summed exactly to get a bar."""
MOST_TERMS = 32
"""Terms of a query that coarse sums of one byte are fine enough for."""
UNITS = 254
"""The largest coarse sum."""
SLACK = 1e-9
"""Relative: more than all rounding of sums in float64."""
_BYTES, _LOW, _HIGH = np.uint64(0x0101010101010101), np.uint64(0x7F7F7F7F7F7F7F7F), np.uint64(0x8080808080808080)


@compiled
def occurrences(tfs, at, big_at, big_tfs):  # noqa: ANN001, ANN201
    """Return how often the term of a posting occurs."""
    tf = np.int64(tfs[at])
    if tf == 255:
        place = np.searchsorted(big_at, at)
        if place < len(big_at) and big_at[place] == at:
            tf = big_tfs[place]
    return tf


@compiled
def _share(tf, weight, inverse):  # noqa: ANN001, ANN202
    """Return what a term adds to a score, rounded as Lucene rounds it; inverse float32 of the passage's length."""
    return max(np.float64(weight - weight / (np.float32(1) + np.float32(tf) * inverse)), LEAST)


@compiled
def _find(docs, at, stop, doc):  # noqa: ANN001, ANN202
    """Return the last posting in [at, stop) whose passage is not behind `doc`, or the first one. No branch to predict."""
    n = stop - at
    while n > 1:
        half = n >> 1
        at += half * (docs[at + half] <= doc)
        n -= half
    return at


@compiled
def _still_open(sums, touched, n, more, worst, local):  # noqa: ANN001, ANN202
    """Keep the touched passages that can still enter; return how many.

    One that is dropped here may be touched again: its sum is then too low, and it cannot enter either way.
    """
    kept = 0
    for i in range(n):
        doc = touched[i]
        most = sums[doc] + more
        if most <= worst or most < local:
            sums[doc] = 0.0
        else:
            touched[kept] = doc
            kept += 1
    return kept


@compiled
def _exactly(postings, base, inverse, runs, m, scratch, k, size, out_docs, out_scores):  # noqa: ANN001, ANN202
    """Offer the passages of m runs, summed exactly, to the k best; return how many there are."""
    docs, tfs, lengths, big_at, big_tfs = postings
    bound, begin, end, weight, _, _ = runs  # some may be empty
    sums, touched, kth_scratch, zeros = scratch
    order, rest = np.empty(m, np.int64), np.zeros(m + 1, np.float64)
    for j in range(m):  # falling bounds
        place = j
        while place > 0 and bound[order[place - 1]] < bound[j]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = j
    for j in range(m - 1, -1, -1):
        rest[j] = rest[j + 1] + bound[order[j]]
    pending = (end[:m] - begin[:m]).sum()
    worst = np.float64(out_scores[0]) if size == k else -1.0
    n, local, j = 0, -1.0, 0
    while j < m:
        if k <= n < pending and 2 * rest[j] < rest[0]:
            # Partial sums only grow: the k-th of them bounds the k-th score from below (less rounding).
            local = max(local, kth(sums, touched, n, k, kth_scratch, zeros) * (1 - 1e-6))
        if j and ((size == k and rest[j] <= worst) or rest[j] < local):
            n = _still_open(sums, touched, n, rest[j], worst, local)
            if SUM * n < pending:
                break
        run = order[j]
        w = weight[run]
        for at in range(begin[run], end[run]):
            doc = docs[at]
            tf = np.int64(tfs[at])
            before = sums[doc]
            touched[n] = doc
            n += before == 0.0  # no branch: it could not be predicted
            tf = tf if tf < 255 else occurrences(tfs, at, big_at, big_tfs)
            sums[doc] = before + _share(tf, w, inverse[lengths[base + doc]])
        pending -= end[run] - begin[run]
        j += 1
    n = _still_open(sums, touched, n, rest[j], worst, local)
    while j < m and n:
        run = order[j]
        for i in range(n):
            doc = touched[i]
            at = _find(docs, begin[run], end[run], doc)
            if at < end[run] and docs[at] == doc:
                tf = occurrences(tfs, at, big_at, big_tfs)
                sums[doc] += _share(tf, weight[run], inverse[lengths[base + doc]])
        j += 1
        n = _still_open(sums, touched, n, rest[j], worst, local)
    for i in range(n):
        doc = touched[i]
        size = offer(out_scores, out_docs, size, k, np.float32(sums[doc]), base + doc)
        sums[doc] = 0.0
    return size


@compiled
def _add(docs, tfs, at, stop, table, coarse):  # noqa: ANN001, ANN202
    """Add the postings of a run coarsely; table [256] uint8 by occurrences."""
    for i in range(at, stop):
        coarse[docs[i]] += table[tfs[i]]


@compiled
def _of_runs(docs, begin, end, added, m, coarse, least, found):  # noqa: ANN001, ANN202
    """Collect the passages of the added runs whose coarse sum is at least `least`, some twice; return how many."""
    n = 0
    for j in range(m):
        if added[j]:
            for at in range(begin[j], end[j]):
                found[n] = docs[at]
                n += coarse[docs[at]] >= least
    return n


@compiled
def _of_tile(coarse, n_docs, least, found):  # noqa: ANN001, ANN202
    """Collect the passages of the tile whose coarse sum is at least `least`; return how many.

    Half of each byte is compared at once in eight of them; what is left is looked at.
    """
    n, room = 0, np.uint64(128 - (least >> 1)) * _BYTES
    blocks = coarse.view(np.uint64).reshape(-1, 64)
    for block in range((n_docs + 511) >> 9):
        some = np.uint64(0)
        for i in range(64):
            some |= ((blocks[block, i] >> np.uint64(1)) & _LOW) + room
        if some & _HIGH:
            for doc in range(512 * block, 512 * block + 512):
                found[n] = doc
                n += coarse[doc] >= least
    return n


@compiled
def _cheapest(runs, m, excess):  # noqa: ANN001, ANN202
    """Return the run that lowers the bound of a passage without it by most for its cost, or -1 where all were added.

    excess: how much the bound is above the bar; what lowers it further counts no more.
    """
    bound, begin, end, _, _, added = runs
    pick, best = -1, 0.0
    for j in range(m):
        if not added[j]:
            gain = min(bound[j], excess) / (end[j] - begin[j] + STEP)
            if gain > best:
                pick, best = j, gain
    return pick


@compiled
def _pending(runs, m):  # noqa: ANN001, ANN202
    """Return the most that the runs which were not added can give."""
    total = 0.0
    for j in range(m):
        if not runs[5][j]:
            total += runs[0][j]
    return total


@compiled
def _coarsely(postings, base, n_docs, inverse, runs, m, tables, unit, scratch, k, out_docs, out_scores):  # noqa: ANN001, ANN202
    """Offer those passages of m runs to the k best, all known, whose bounds reach the worst of them."""
    docs, tfs = postings[0], postings[1]
    _, begin, end, _, term, added = runs
    coarse, found, whole, real = scratch
    bar = np.nextafter(np.float64(out_scores[0]), np.inf)
    added[:m] = False
    more, n, spent, least = _pending(runs, m), -1, 0, 1
    while True:
        if more < bar:
            # a passage may enter only from this coarse sum on
            least = max(1, np.int64((bar - more) / unit * (1 - SLACK)))
            if n >= 0:
                kept = 0
                for i in range(n):
                    doc = found[i]
                    found[kept] = doc
                    kept += coarse[doc] >= least
                n = kept
            elif spent > len(coarse):
                n = _of_tile(coarse, n_docs, least, found)
            else:
                n = _of_runs(docs, begin, end, added, m, coarse, least, found)
        pick = _cheapest(runs, m, more - bar + unit if n < 0 else np.inf)
        if pick < 0 or 0 <= PROBE * n < end[pick] - begin[pick]:
            break
        _add(docs, tfs, begin[pick], end[pick], tables[term[pick]], coarse)
        added[pick] = True
        spent += end[pick] - begin[pick]
        more = _pending(runs, m)
    own, most, score = whole[1], real[0], real[1]
    i, room = 0, len(own)
    while i < n:
        count = 0
        while i < n and count < room:
            doc = found[i]
            if coarse[doc] >= least:
                own[count], most[count], score[count] = doc, coarse[doc] * unit + more, 0.0
                coarse[doc] = 0  # it may be there twice
                count += 1
            i += 1
        count = _settle(postings, base, inverse, runs, m, tables, unit, whole, real, count, bar)
        for j in range(count):
            offer(out_scores, out_docs, k, k, np.float32(score[j]), base + own[j])
        bar = max(bar, np.float64(out_scores[0]) * (1 - 1e-7))  # not above it: ties go to the earlier passage
    coarse[:n_docs] = 0


@compiled
def _settle(postings, base, inverse, runs, m, tables, unit, whole, real, n, bar):  # noqa: ANN001, ANN202
    """Replace the bounds of n passages by their scores, run after run, keeping those that reach the bar; return how many.

    whole [2, *] int64: a posting and the passage; real [2, *] float64: the most that it may score, its score so far.
    """
    docs, tfs, lengths, big_at, big_tfs = postings
    bound, begin, end, weight, term, added = runs
    places, own, most, score = whole[0], whole[1], real[0], real[1]
    for turn in range(2):  # runs whose bound is the coarser come first
        for j in range(m):
            if added[j] != (turn == 1) or not n:
                continue
            places[:n] = begin[j]
            length = end[j] - begin[j]
            while length > 1:  # all passages in step: their reads wait for memory together
                half = length >> 1
                for i in range(n):
                    places[i] += half * (docs[places[i] + half] <= own[i])
                length -= half
            kept = 0
            for i in range(n):
                at, doc, high, exact = places[i], own[i], most[i], score[i]
                if turn == 0:
                    high -= bound[j]
                if docs[at] == doc:
                    share = _share(occurrences(tfs, at, big_at, big_tfs), weight[j], inverse[lengths[base + doc]])
                    high += share - (tables[term[j], tfs[at]] * unit if turn else 0.0)
                    exact += share
                own[kept], most[kept], score[kept] = doc, high, exact
                kept += high * (1 + SLACK) >= bar
            n = kept
    return n


@compiled
def _tables(weight, shares, unit):  # noqa: ANN001, ANN202
    """Return [terms, 256] uint8: units that a term gives at most by its occurrences; shares [256] of the weight."""
    tables = np.empty((len(weight), 256), np.uint8)
    for i in range(len(weight)):
        for tf in range(256):
            tables[i, tf] = np.uint8(np.ceil(shares[tf] * (weight[i] / unit)))
    return tables


@compiled
def _gather(arrays, query, cursor, tile, runs):  # noqa: ANN001, ANN202
    """Fill in the runs of a tile: (bound, begin, end, weight, term, added); return (how many, sum of bounds), -1 if damaged."""
    _, _, _, _, run_tiles, run_firsts, run_maxima, _, _ = arrays
    start, df, _, run_to, weight = query
    m, total = 0, 0.0
    for i in range(len(start)):
        run = cursor[i]
        if run >= run_to[i] or run_tiles[run] != tile:
            continue
        cursor[i] += 1
        first = np.int64(run_firsts[run])
        last = np.int64(run_firsts[run + 1]) if run + 1 < run_to[i] else df[i]
        if first > last or last > df[i]:
            return -1, 0.0
        if first < last:
            runs[0][m] = weight[i] * (run_maxima[run] / 255.0 + 1e-6)
            runs[1][m], runs[2][m], runs[3][m], runs[4][m] = start[i] + first, start[i] + last, weight[i], i
            total += runs[0][m]
            m += 1
    return m, total


@compiled
def search(arrays, query, inverse, shares, k, scratch, out_docs, out_scores):  # noqa: ANN001, ANN201
    """Find the k best passages of one query; return how many there are, or -1 where the index is damaged.

    arrays: (docs, tfs, lengths, bases, run_tiles, run_firsts, run_maxima, big_at, big_tfs); query: (start, df, first
    run, last run, weight float32) per term; inverse [256] float32; shares [256] float64: bounds of what a term gives,
    as a share of its weight, by occurrences; scratch: (sums [TILE] float64 and coarse sums [TILE] uint8, all 0;
    touched [TILE + 1] int32; k-th [k] float64; zeros [k] int64; whole and real, see `_settle`). out_docs [k] int64,
    out_scores [k] float32: a heap.
    """
    docs, tfs, lengths, bases, run_tiles, _, _, big_at, big_tfs = arrays
    sums, coarse, touched, kth_scratch, zeros, whole, real = scratch
    cursor, run_to, weight = query[2].copy(), query[3], query[4]
    n, n_tiles = len(cursor), len(bases) - 1
    postings = docs, tfs, lengths, big_at, big_tfs
    exact, rough = (sums, touched, kth_scratch, zeros), (coarse, touched, whole, real)
    runs = (np.empty(n, np.float64), np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.float32),
            np.empty(n, np.int64), np.empty(n, np.bool_))  # fmt: skip
    unit, tables = weight.sum() / np.float64(UNITS - n), np.empty((0, 256), np.uint8)
    size = 0
    while True:
        tile = n_tiles
        for i in range(n):
            if cursor[i] < run_to[i] and run_tiles[cursor[i]] < tile:
                tile = run_tiles[cursor[i]]
        if tile >= n_tiles:  # every run was visited, but for one of a tile that does not exist
            return size if np.all(cursor >= run_to) else -1
        m, total = _gather(arrays, query, cursor, tile, runs)
        if m < 0:
            return -1
        if size == k and total <= out_scores[0]:
            continue
        base, n_docs = bases[tile], min(bases[tile + 1] - bases[tile], len(coarse))
        if n <= MOST_TERMS and size < k and n_docs > 4 * FIRST:
            last = runs[2].copy()
            for j in range(m):
                at = _find(docs, runs[1][j], last[j], FIRST)
                runs[2][j] = at + (docs[at] < FIRST)
            size = _exactly(postings, base, inverse, runs, m, exact, k, size, out_docs, out_scores)
            runs[1][:m] = runs[2][:m]
            runs[2][:m] = last[:m]
            m = _without_empty(runs, m)
        if size == k and n <= MOST_TERMS:
            tables = tables if len(tables) else _tables(weight, shares, unit)
            _coarsely(postings, base, n_docs, inverse, runs, m, tables, unit, rough, k, out_docs, out_scores)
        else:
            size = _exactly(postings, base, inverse, runs, m, exact, k, size, out_docs, out_scores)


@compiled
def _without_empty(runs, m):  # noqa: ANN001, ANN202
    """Drop the runs without postings; return how many are left."""
    bound, begin, end, weight, term, _ = runs
    kept = 0
    for j in range(m):
        bound[kept], begin[kept], end[kept], weight[kept], term[kept] = bound[j], begin[j], end[j], weight[j], term[j]
        kept += begin[j] < end[j]
    return kept


@compiled
def search_batch(arrays, where, weights, bounds, inverse, shares, k, scratch, out_docs, out_scores, found):  # noqa: ANN001, ANN201
    """Search query i, whose terms are rows bounds[i]:bounds[i + 1] of `where` and `weights`, into row i of the outputs.

    where [terms, 4] int64: start, df, first run, last run. Rows come out best first; found[i] is their length, or -1
    where the index is damaged.
    """
    n_passages = arrays[3][-1]
    for i in range(len(bounds) - 1):
        a, b = bounds[i], bounds[i + 1]
        query = (where[a:b, 0], where[a:b, 1], where[a:b, 2], where[a:b, 3], weights[a:b])
        n = search(arrays, query, inverse, shares, k, scratch, out_docs[i], out_scores[i])
        best_first(out_scores[i], out_docs[i], n)
        for j in range(n):
            if out_docs[i, j] >= n_passages:
                n = -1
                break
        found[i] = n
