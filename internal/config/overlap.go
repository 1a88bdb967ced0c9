package config

import (
	"cmp"
	"slices"
)

// entry is one sound entry of one pool. Pools are numbered by age.
type entry struct {
	span
	pool, index int
	text        string
}

// loss is an entry that is left out because another one holds its addresses.
type loss struct {
	entry
	to entry
}

func (e entry) compareRank(o entry) int {
	return cmp.Or(cmp.Compare(e.pool, o.pool), cmp.Compare(e.index, o.index))
}

// settle decides which entries keep their addresses: of two that overlap, the
// one of the older pool, and within a pool the earlier one. An entry that is
// left out takes nothing from the others. Both results are in rank order.
//
// Overlaps are rare, so one sorted walk finds the clusters of entries that
// touch each other, and only those with more than one member are looked into.
func settle(entries []entry) (kept []entry, lost []loss) {
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(a, b entry) int {
		return cmp.Or(a.from.Compare(b.from), a.compareRank(b))
	})
	for start := 0; start < len(sorted); {
		reach, end := sorted[start].to, start+1
		for end < len(sorted) && sorted[end].from.Compare(reach) <= 0 {
			if reach.Less(sorted[end].to) {
				reach = sorted[end].to
			}
			end++
		}
		k, l := settleCluster(sorted[start:end])
		kept, lost = append(kept, k...), append(lost, l...)
		start = end
	}
	slices.SortFunc(kept, entry.compareRank)
	slices.SortFunc(lost, func(a, b loss) int { return a.compareRank(b.entry) })
	return kept, lost
}

// settleCluster settles entries that overlap one another, directly or through
// others. It reorders its argument.
func settleCluster(cluster []entry) (kept []entry, lost []loss) {
	slices.SortFunc(cluster, entry.compareRank)
	// held are the entries that keep their addresses so far, ascending. They
	// do not overlap, so only the neighbours of a new entry can touch it.
	var held []entry
	for _, e := range cluster {
		i, _ := slices.BinarySearchFunc(held, e, func(h, e entry) int { return h.from.Compare(e.from) })
		switch {
		case i > 0 && held[i-1].overlaps(e.span):
			lost = append(lost, loss{entry: e, to: held[i-1]})
		case i < len(held) && held[i].overlaps(e.span):
			lost = append(lost, loss{entry: e, to: held[i]})
		default:
			held = slices.Insert(held, i, e)
			kept = append(kept, e)
		}
	}
	return kept, lost
}
