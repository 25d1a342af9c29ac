package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/eiderdb/eider/core/wasm/wasmtest"
)

// benchHostile measures what guests that do their worst cost others: a GET of another
// project and POST /projects under a benign policy, before and after each of them.
func benchHostile(ctx context.Context, b *bench) error {
	h := &hostileBench{bench: b}
	all := wasmtest.Hostile()
	if b.tiny() {
		all = all[:2]
	}
	if err := h.open(); err != nil {
		return err
	}
	err := h.run(ctx, all)
	return errors.Join(err, h.server.stop())
}

// hostileBench is a server with a benign policy on all and a hostile one on the project
// evil alone.
type hostileBench struct {
	*bench
	folder string // of the hostile policy
	server *server
	made   atomic.Int64
}

func (h *hostileBench) open() error {
	module := wasmtest.Policy(nil, nil)
	var folders []string
	for _, name := range []string{"benign", "hostile"} {
		dir, err := h.fresh(name)
		if err != nil {
			return err
		}
		folders = append(folders, dir)
		if err := put(dir, module); err != nil {
			return err
		}
	}
	h.folder = folders[1]
	data, err := h.fresh("neighbours")
	if err != nil {
		return err
	}
	h.server, err = h.serve(data, fmt.Sprintf(`EIDER_PLUGINS_ITEMS=[{name: benign, path: %q}, {name: hostile, path: %q, guests: 1, priority: 9, projects: [evil], capabilities: [log, kv]}]`,
		folders[0], folders[1]))
	return err
}

func put(dir string, module []byte) error {
	return errors.Join(os.WriteFile(filepath.Join(dir, "guest.wasm"), module, 0o600), os.WriteFile(filepath.Join(dir, "plugin.yaml"), []byte(wasmtest.Manifest), 0o600))
}

// pair is the same load before and after a guest.
type pair struct {
	guest         string
	before, after *result
}

func (p pair) ratio() float64 { return float64(p.after.p50()) / float64(p.before.p50()) }

func (h *hostileBench) run(ctx context.Context, all []wasmtest.HostileGuest) error {
	c, err := dial(h.server.address)
	if err != nil {
		return err
	}
	defer c.close()
	for _, id := range []string{"evil", "good"} {
		if err := c.want(201, "POST", "/projects", h.server.root, fmt.Sprintf(`{"id":%q}`, id)); err != nil {
			return err
		}
	}
	loads := []struct {
		what  string
		do    func(*client) (bool, error)
		pairs []pair
	}{{what: "GET /projects/{id}", do: h.get}, {what: "POST /projects, a benign policy", do: h.post}}
	for _, guest := range all {
		before := make([]*result, len(loads))
		for i, l := range loads {
			if before[i], err = h.load(ctx, l.do); err != nil {
				return err
			}
		}
		if err := h.worst(c, guest); err != nil {
			return err
		}
		for i, l := range loads {
			after, err := h.load(ctx, l.do)
			if err != nil {
				return err
			}
			loads[i].pairs = append(l.pairs, pair{guest.Name, before[i], after})
		}
	}
	for _, l := range loads {
		h.tell(l.what, l.pairs)
	}
	for _, l := range loads {
		if err := h.beside(ctx, c, l.what, l.do); err != nil {
			return err
		}
	}
	h.table.note(fmt.Sprintf("Before and after are of the same %d loads, one before and one after each hostile guest has been loaded, has refused itself in its self-test, and "+
		"has done its worst %d times. The one with the largest ratio stands alone: of so many short loads one is the worst by chance, too.", len(all), worstTimes))
	return nil
}

// worstTimes is how often each guest does its worst.
const worstTimes = 8

// worst loads the guest as it is, which its self-test refuses, and as one that proves
// itself first, and has it asked.
func (h *hostileBench) worst(c *client, guest wasmtest.HostileGuest) error {
	for _, late := range []bool{false, true} {
		if err := put(h.folder, guest.Policy(late)); err != nil {
			return err
		}
		if err := c.want(map[bool]int{false: 422, true: 200}[late], "POST", "/plugins/hostile/reload", h.server.root, "{}"); err != nil {
			return fmt.Errorf("%s: %w", guest.Name, err)
		}
	}
	for denied := 0; denied < worstTimes; {
		status, err := c.do("PATCH", "/projects/evil", h.server.root, `{"name":"x"}`)
		switch {
		case err != nil:
			return err
		case status == 403:
			denied++
		case status != 200:
			return fmt.Errorf("%s: PATCH answers %d: %s", guest.Name, status, c.body)
		}
	}
	return nil
}

func (h *hostileBench) get(c *client) (bool, error) {
	return true, c.want(200, "GET", "/projects/good", h.server.root, "")
}

func (h *hostileBench) post(c *client) (bool, error) {
	return true, c.want(201, "POST", "/projects", h.server.root, fmt.Sprintf(`{"id":"n%d"}`, h.made.Add(1)))
}

// load is a fifth as long as others: there are many.
func (h *hostileBench) load(ctx context.Context, do func(*client) (bool, error)) (*result, error) {
	return drive(ctx, 1, h.lasts/5, h.server.each(do))
}

// tell adds the rows of one kind of load.
func (h *hostileBench) tell(what string, pairs []pair) {
	before, after := &result{}, &result{}
	for _, p := range pairs {
		before.join(p.before)
		after.join(p.after)
	}
	h.table.add(before.row(what + ", before hostile guests"))
	r := after.row(what + ", after them")
	r.Ratio, r.Of, r.Bar = float64(after.p50())/float64(before.p50()), "p50 before", "at most 2 x"
	h.table.add(r)
	h.table.add(row{What: "the same", Ratio: float64(after.p99()) / float64(before.p99()), Of: "p99 before", Bar: "at most 2 x"})
	slices.SortFunc(pairs, func(a, b pair) int { return int(1000 * (b.ratio() - a.ratio())) })
	worst := pairs[0].after.row(what + ", the worst: " + pairs[0].guest)
	worst.Ratio, worst.Of, worst.Bar = pairs[0].ratio(), "p50 before it", "at most 2 x"
	h.table.add(worst)
}

// beside measures the load while another client has a guest spin without a pause.
func (h *hostileBench) beside(ctx context.Context, c *client, what string, do func(*client) (bool, error)) error {
	spins := slices.IndexFunc(wasmtest.Hostile(), func(g wasmtest.HostileGuest) bool { return g.Name == "endless loop" })
	if err := h.worst(c, wasmtest.Hostile()[spins]); err != nil {
		return err
	}
	alone, err := h.load(ctx, do)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && running.Err() == nil {
			_, err = c.do("PATCH", "/projects/evil", h.server.root, `{"name":"x"}`)
		}
		ended <- err
	}()
	beside, err := h.load(ctx, do)
	stop()
	if err = errors.Join(err, <-ended); err != nil {
		return err
	}
	r := beside.row(what + ", beside a client whose policy spins")
	r.Ratio, r.Of = float64(beside.p50())/float64(alone.p50()), "p50 alone"
	h.table.add(r)
	return nil
}

// join adds what another load has measured.
func (r *result) join(other *result) {
	r.took += other.took
	r.good = append(r.good, other.good...)
	r.refused += other.refused
	slices.Sort(r.good)
}
