package audit

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
)

// Broken is one place where the chain does not hold.
type Broken struct {
	ID     int64  `json:"id"`
	LastID int64  `json:"last_id,omitempty" doc:"Where it is more than one row"`
	Kind   string `json:"kind" enum:"altered,missing,inserted,reordered,truncated,checkpoint"`
	Detail string `json:"detail"`
}

// maxBreaks is how many breaks are named; the others are counted.
const maxBreaks = 100

// nearby is how far around its place an altered row is looked for.
const nearby = 8

// breaks are what a walk finds. What an altered row was before is told at its end,
// when all of them are known: a row under another id keeps the hash that it had
// under its own.
type breaks struct {
	list    []Broken
	altered []Row
	omitted int64
}

func (b *breaks) add(one Broken) {
	if len(b.list)+len(b.altered) >= maxBreaks {
		b.omitted++
		return
	}
	b.list = append(b.list, one)
}

func (b *breaks) addAltered(r *Row) {
	if len(b.list)+len(b.altered) >= maxBreaks {
		b.omitted++
		return
	}
	b.altered = append(b.altered, *r)
}

// count is how many there are.
func (b *breaks) count() int { return len(b.list) + len(b.altered) + int(b.omitted) }

func (b *breaks) has(id int64) bool {
	return slices.ContainsFunc(b.altered, func(r Row) bool { return r.ID == id }) ||
		slices.ContainsFunc(b.list, func(one Broken) bool { return one.ID <= id && id <= max(one.ID, one.LastID) })
}

// told returns the breaks by id, of a walk from first to last.
func (b *breaks) told(first, last int64) []Broken {
	was := b.moved()
	all := slices.Clone(b.list)
	found := map[int64]int64{} // where a row is now, by its own id
	for id, own := range was {
		found[own] = id
	}
	inserted := func(id int64) Broken {
		return Broken{ID: id, Kind: "inserted", Detail: fmt.Sprintf("row %d was inserted: the one that was written has the id %d", id, found[id])}
	}
	for i := range all {
		if found[all[i].ID] != 0 && all[i].Kind == "reordered" {
			all[i] = inserted(all[i].ID)
		}
	}
	for i := range b.altered {
		id := b.altered[i].ID
		switch _, elsewhere := found[id]; {
		case was[id] != 0:
			all = append(all, Broken{ID: id, Kind: "reordered"})
			// Rows that move down close a gap. What is before the first, nobody looked at.
			unseen := first > 1 && id < first+was[id]-id
			if was[id] > id && !elsewhere && !unseen && !b.listed(id, "missing") {
				all = append(all, Broken{ID: id, Kind: "missing"})
			}
		case elsewhere:
			all = append(all, inserted(id))
		case b.altered[i].holed:
			all = append(all, Broken{ID: id, Kind: "altered", Detail: fmt.Sprintf("row %d has nothing, or no time there can be, in a column where every row has something", id)})
		default:
			all = append(all, Broken{ID: id, Kind: "altered", Detail: fmt.Sprintf("row %d does not have the hash of its content", id)})
		}
	}
	newest := last
	if b.omitted > 0 && len(b.altered) > 0 {
		newest = b.altered[len(b.altered)-1].ID // of the rows behind it not all are known
	}
	for own := range found {
		if own >= first && own <= newest && !b.has(own) { // it has the hash of its content, but it is not the first of its id
			all = append(all, inserted(own))
		}
	}
	order := func(a, b Broken) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Kind, b.Kind)) }
	slices.SortStableFunc(all, order)
	all = runs(all, was)
	slices.SortStableFunc(all, order)
	return all
}

func (b *breaks) listed(id int64, kind string) bool {
	return slices.ContainsFunc(b.list, func(one Broken) bool { return one.Kind == kind && one.ID <= id && id <= max(one.ID, one.LastID) })
}

// moved tells for the altered rows that are others under their ids which those are.
func (b *breaks) moved() map[int64]int64 {
	var ids []int64
	for _, r := range b.altered {
		ids = append(ids, r.ID)
	}
	for _, one := range b.list {
		ids = append(ids, one.ID)
		for id := one.ID; id <= min(one.LastID, one.ID+nearby); id++ {
			ids = append(ids, id)
		}
	}
	was := map[int64]int64{}
	for i := range b.altered {
		r := b.altered[i]
		if r.holed { // its hash may be that of what is empty now
			continue
		}
		own := r.Hash
		try := func(id int64) bool {
			r.ID = id
			return id > 0 && bytes.Equal(r.hash(), own)
		}
		id := b.altered[i].ID
		for d := int64(1); d <= nearby && was[id] == 0; d++ {
			for _, near := range [...]int64{id - d, id + d} {
				if try(near) {
					was[id] = near
				}
			}
		}
		for n := 0; n < len(ids) && was[id] == 0; n++ {
			if try(ids[n]) {
				was[id] = ids[n]
			}
		}
	}
	return was
}

// runs makes one of the breaks without a detail that come one after the other and
// are alike, and gives it one.
func runs(all []Broken, was map[int64]int64) []Broken {
	var out []Broken
	open := map[string]int{} // where the last of a kind is
	for _, one := range all {
		if one.Detail != "" {
			out = append(out, one)
			continue
		}
		if at, ok := open[one.Kind]; ok {
			before := &out[at]
			end := max(before.ID, before.LastID)
			if one.ID == end+1 && one.ID-was[one.ID] == end-was[end] {
				before.LastID = one.ID
				continue
			}
		}
		out = append(out, one)
		open[one.Kind] = len(out) - 1
	}
	for i := range out {
		one := &out[i]
		if one.Detail != "" {
			continue
		}
		end := max(one.ID, one.LastID)
		if one.Detail = span(one.ID, end, "is", "are") + " " + span(was[one.ID], was[end], "", "") + " under another id"; one.Kind == "missing" {
			one.Detail = span(one.ID, end, "is", "are") + " missing: others have been moved there"
		}
	}
	return out
}

// lastOf returns the last row of a span, 0 where it is its first.
func lastOf(id, last int64) int64 {
	if last <= id {
		return 0
	}
	return last
}

// span names rows, and a verb for them.
func span(first, last int64, one, many string) string {
	text, verb := fmt.Sprintf("row %d", first), one
	if last > first {
		text, verb = fmt.Sprintf("rows %d to %d", first, last), many
	}
	if verb == "" {
		return text
	}
	return text + " " + verb
}
