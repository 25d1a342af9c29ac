package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/eiderdb/eider/core/duck"
)

// inProcess runs the statement of the rows above with the driver alone.
func (t *tableBench) inProcess(ctx context.Context) error {
	dir, err := t.fresh("driver")
	if err != nil {
		return err
	}
	var first, later []time.Duration
	for i := range 4 * t.rounds {
		path := filepath.Join(dir, fmt.Sprintf("%d.duckdb", i))
		if err := duck.CreateTemplate(ctx, path); err != nil {
			return err
		}
		begun := time.Now()
		db, err := duck.Open(ctx, path, duck.Options{Threads: 2})
		if err != nil {
			return err
		}
		for n := range 50 {
			if n > 0 {
				begun = time.Now()
			}
			if err := one(ctx, db); err != nil {
				return errors.Join(err, db.Close())
			}
			if took := time.Since(begun); n == 0 {
				first = append(first, took)
			} else {
				later = append(later, took)
			}
		}
		if err := db.Close(); err != nil {
			return err
		}
	}
	t.table.add(row{What: "first statement in the driver alone", P50: middle(first)})
	t.table.add(row{What: "a later one in the driver alone", P50: middle(later), Bar: "eider's: < 1 ms more"})
	return nil
}

// one reads one row on a connection of its own, as workers do.
func one(ctx context.Context, db *duck.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	_, err = conn.Text(ctx, "SELECT to_json(r)::VARCHAR FROM (SELECT 1 AS one) r")
	return errors.Join(err, conn.Close())
}

// manyTables lists a bucket of 5,000 tables. They are made in the project's file,
// which nobody has opened yet.
func (t *tableBench) manyTables(ctx context.Context) error {
	const tables = 5000
	text, _, err := t.call(ctx, "POST /projects", "", `{"id":"catalog"}`, true)
	if err != nil {
		return err
	}
	var project struct {
		Path string `json:"db_path"`
	}
	if err := json.Unmarshal(text, &project); err != nil {
		return err
	}
	if err := makeTables(ctx, filepath.Join(t.dir, project.Path), tables); err != nil {
		return err
	}
	for _, limit := range []int{100, 1000} {
		var all []time.Duration
		for range 5 * t.rounds {
			begun := time.Now()
			text, _, err := t.call(ctx, fmt.Sprintf("GET /projects/catalog/buckets/b/tables?limit=%d", limit), "", "", true)
			if err != nil {
				return err
			}
			if !strings.Contains(string(text), fmt.Sprintf(`"total":%d`, tables)) {
				return fmt.Errorf("the list says %.200s", text)
			}
			all = append(all, time.Since(begun))
		}
		t.table.add(row{What: fmt.Sprintf("list of 5,000 tables, a page of %d", limit), P50: middle(all)})
	}
	return nil
}

func makeTables(ctx context.Context, path string, n int) (err error) {
	db, err := duck.Open(ctx, path, duck.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.Begin(ctx); err != nil {
		return err
	}
	if err := conn.Exec(ctx, "CREATE SCHEMA b"); err != nil {
		return err
	}
	for i := range n {
		if err := conn.Exec(ctx, fmt.Sprintf("CREATE TABLE b.t%04d (id BIGINT PRIMARY KEY, name VARCHAR, amount DECIMAL(10,2))", i)); err != nil {
			return err
		}
	}
	return conn.Commit()
}

// open30 tells what the workers of 30 open projects hold, each page shared out
// among those that share it.
func (t *tableBench) open30(ctx context.Context) (err error) {
	dir, err := t.fresh("open")
	if err != nil {
		return err
	}
	other := &tableBench{bench: t.bench, dir: dir}
	if other.s, err = t.serve(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.s.stop()) }()
	const projects = 30
	for i := range projects {
		id := fmt.Sprintf("open%d", i)
		if _, _, err := other.call(ctx, "POST /projects", "", `{"id":"`+id+`"}`, false); err != nil {
			return err
		}
		if _, _, err := other.query(ctx, id, "", "SELECT sum(range) FROM range(100000)", ""); err != nil {
			return err
		}
	}
	workers, err := other.s.workers()
	if err != nil {
		return err
	}
	var sum int64
	for _, pid := range workers {
		held, err := shared(pid)
		if err != nil {
			return err
		}
		sum += held
	}
	t.table.add(row{What: fmt.Sprintf("30 open projects: their workers' memory (Pss), %.1f MiB each", float64(sum)/float64(len(workers))/(1<<20)), Memory: sum})
	return nil
}

// workers returns the processes that the server has started.
func (s *server) workers() (pids []int, err error) {
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.cmd.Process.Pid))
	if err != nil {
		return nil, err
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// cpuOfAll returns the processor time of the server and of its workers so far.
func (s *server) cpuOfAll() (sum time.Duration, err error) {
	if sum, err = s.cpu(); err != nil {
		return 0, err
	}
	pids, err := s.workers()
	for _, pid := range pids {
		if one, err := cpuOf(pid); err == nil { // else it has ended
			sum += one
		}
	}
	return sum, err
}

// shared returns a process's share of the memory that it has resident, in bytes.
func shared(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, fmt.Errorf("only root may look into a worker: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), "\nPss:")
	var kb int64
	_, err = fmt.Sscan(rest, &kb)
	return kb << 10, err
}

// bombs runs statements of one project while another's does not stop, and tells
// when that one's is back whose worker was killed for it.
func (t *tableBench) bombs(ctx context.Context) error {
	const bomb = "SELECT levenshtein(repeat('a', 400000), repeat('b', 400000))"
	for _, id := range []string{"bombed", "neighbour"} {
		if _, _, err := t.call(ctx, "POST /projects", "", `{"id":"`+id+`"}`, false); err != nil {
			return err
		}
		if _, _, err := t.query(ctx, id, "", "SELECT 1", ""); err != nil {
			return err
		}
	}
	var alone, beside, back []time.Duration
	for range max(3, t.rounds) {
		ask := func(into *[]time.Duration, until <-chan struct{}) error {
			for {
				select {
				case <-until:
					return nil
				default:
				}
				_, took, err := t.query(ctx, "neighbour", "", "SELECT sum(hash(range)) FROM range(100000)", "")
				if err != nil {
					return err
				}
				*into = append(*into, took)
			}
		}
		second := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(second) })
		if err := ask(&alone, second); err != nil {
			return err
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _, _ = t.query(ctx, "bombed", "", bomb, `,"timeout_ms":1000`) // it is refused
		}()
		if err := ask(&beside, ended); err != nil {
			return err
		}
		begun := time.Now()
		if _, _, err := t.query(ctx, "bombed", "", "SELECT 1", ""); err != nil {
			return err
		}
		back = append(back, time.Since(begun))
	}
	t.table.add(row{What: "statements of a neighbour, alone", P50: middle(alone), P99: alone[len(alone)*99/100]})
	t.table.add(row{
		What: "the same while a project's statement does not stop", P50: middle(beside), P99: beside[len(beside)*99/100],
		Ratio: middle(beside).Seconds() / middle(alone).Seconds(), Of: "the row above", Bar: "<= 2",
	})
	t.table.add(row{What: "first statement of the project that was refused", P50: middle(back), P99: back[len(back)-1], Bar: "< 1 s"})
	return nil
}
