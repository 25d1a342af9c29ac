package metadatatest

import (
	"context"
	"slices"
	"sort"

	"github.com/eiderdb/eider/core/metadata"
	"pgregory.net/rapid"
)

// check compares everything that is committed.
func (m *model) check(t *rapid.T) {
	var all []person
	for _, p := range m.committed.people {
		all = append(all, p)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].N < all[j].N || all[i].N == all[j].N && all[i].ID < all[j].ID })
	m.scans(t, all)
	var ids, pages []string
	for _, p := range all {
		ids = append(ids, p.ID)
	}
	m.rig.holds(ids...)
	for _, email := range []string{"x", "y", "z"} {
		got, err := m.rig.people.By(context.Background(), m.rig.store.View(), byEmail, email)
		want, there := m.committed.withEmail(email)
		m.found(step{Kind: "view by", Email: email}, got, err, want, there)
	}
	if len(m.wrong) > 0 {
		t.Errorf("%v", m.wrong)
	}
	if m.rig.people.Len() != len(ids) {
		t.Errorf("%d people, want %d", m.rig.people.Len(), len(ids))
	}
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		if p, err := m.rig.pages.Get(context.Background(), m.rig.store.View(), key); err == nil {
			pages = append(pages, p.ID+p.Text)
		}
		if p, there := m.committed.pages[key]; there && !slices.Contains(pages, p.ID+p.Text) {
			t.Errorf("page %v is not there", p)
		}
	}
	if len(pages) != len(m.committed.pages) {
		t.Errorf("the pages are %v, want %v", pages, m.committed.pages)
	}
	if items := m.rig.chained(); !slices.Equal(items, m.committed.items) {
		t.Errorf("the ledger holds %v, want %v", items, m.committed.items)
	}
}

// scans walks both ways, from each place.
func (m *model) scans(t *rapid.T, all []person) {
	for _, down := range []bool{false, true} {
		want := slices.Clone(all)
		if down {
			slices.Reverse(want)
		}
		for i := range len(want) + 1 {
			over := metadata.Range[person]{Order: byN, Descending: down}
			if i > 0 {
				over.After = &want[i-1]
			}
			var got []person
			m.rig.people.Scan(over, func(p *person) bool {
				got = append(got, *p)
				return true
			})
			if !slices.Equal(got, want[i:]) {
				t.Errorf("down %v after %v come %v, want %v", down, over.After, got, want[i:])
			}
		}
	}
}
