package recovery

import (
	"slices"
	"testing"
)

// listed makes backups, newest first, each of two words: what it holds, and what it is.
func listed(words ...string) (all []Backup, isThere func(*Backup) bool) {
	lost := map[string]bool{}
	for i, one := range words {
		b := Backup{ID: string(rune('a' + i)), Status: complete}
		for _, c := range one {
			switch c {
			case 'p':
				b.Projects = true
			case 'f':
				b.Files = true
			case '!':
				b.Status = damaged
			case '?':
				lost[b.ID] = true
			}
		}
		all = append(all, b)
	}
	return all, func(b *Backup) bool { return b.Status == complete && !lost[b.ID] }
}

// A backup goes when so many newer ones hold all that it holds, whole and in their place.
func TestBackupsGoForFullerOnesThatAreThere(t *testing.T) {
	for name, c := range map[string]struct {
		backups []string
		gone    []string
	}{
		"full ones":                          {[]string{"pf", "pf", "pf", "pf"}, []string{"c", "d"}},
		"lesser ones push no full one out":   {[]string{"-", "-", "-", "pf"}, []string{"c"}},
		"nor one another, where each lacks":  {[]string{"p", "f", "p", "f", "-"}, []string{"e"}},
		"full ones push lesser ones out":     {[]string{"pf", "pf", "-", "p", "f"}, []string{"c", "d", "e"}},
		"lost ones do not count":             {[]string{"pf?", "pf?", "pf"}, nil},
		"damaged ones do not count":          {[]string{"pf!", "pf!", "pf", "pf"}, nil},
		"lost and damaged ones go, once old": {[]string{"pf", "pf", "pf?", "pf!"}, []string{"c", "d"}},
	} {
		all, isThere := listed(c.backups...)
		if got := surplus(all, 2, isThere); !slices.Equal(got, c.gone) {
			t.Errorf("%s: %v go", name, got)
		}
	}
}

// The schedule and the metrics go by the newest whole backup that is in its place and
// holds what scheduled ones do.
func TestOnlyWhatIsScheduledCountsAsTheLast(t *testing.T) {
	all, isThere := listed("-", "p", "pf!", "pf?", "pf", "pf")
	for last, like := range map[string]*Backup{"a": {}, "b": {Projects: true}, "e": {Projects: true, Files: true}} {
		if b, ok := lastWhole(all, like, isThere); !ok || b.ID != last {
			t.Errorf("with %+v it is %s", like, b.ID)
		}
	}
	if b, ok := lastWhole(all[:4], &Backup{Projects: true, Files: true}, isThere); ok {
		t.Errorf("it is %s", b.ID)
	}
}
