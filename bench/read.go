package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
)

// benchRead measures reads of a large register: one project by its id, and pages
// of its list.
func benchRead(ctx context.Context, b *bench) error {
	dir, err := b.largeFolder(ctx)
	if err != nil {
		return err
	}
	s, err := b.serve(dir)
	if err != nil {
		return err
	}
	return errors.Join(getRows(ctx, b, s), listRows(ctx, b, s), s.stop())
}

func getRows(ctx context.Context, b *bench, s *server) error {
	for _, clients := range []int{1, 8} {
		got, cpu, err := s.spent(func() (*result, error) {
			return b.measure(ctx, clients, s.each(func(c *client) (bool, error) {
				return true, c.want(200, "GET", "/projects/"+largeID(rand.IntN(b.projects)), s.root, "")
			}))
		})
		if err != nil {
			return err
		}
		r := got.row(fmt.Sprintf("GET /projects/{id}, one of %s, %s", thousands(int64(b.projects)), many(clients)))
		r.CPU = cpu
		if clients == 1 {
			r.Bar = "p99 < 1 ms"
		}
		b.table.add(r)
	}
	return nil
}

// lists are the pages that are asked for: filtered by status, and by a part of
// the name that one project in ten has.
var lists = []struct{ what, query string }{
	{"newest first", "/projects?sort=-created_at"},
	{"status, by name", "/projects?status=active&sort=name"},
	{"part of the name, by size", "/projects?name_contains=finance&sort=-size_bytes"},
}

func listRows(ctx context.Context, b *bench, s *server) error {
	for _, l := range lists {
		deep, err := s.middle(l.query)
		if err != nil {
			return err
		}
		for _, page := range []struct{ what, query string }{{"first page", l.query}, {"deep page", deep}} {
			got, cpu, err := s.spent(func() (*result, error) {
				return b.measure(ctx, 1, s.each(func(c *client) (bool, error) {
					return true, c.want(200, "GET", page.query+"&limit=100", s.root, "")
				}))
			})
			if err != nil {
				return err
			}
			r := got.row(fmt.Sprintf("list 100 of %s, %s: %s", thousands(int64(b.projects)), l.what, page.what))
			r.CPU, r.Bar = cpu, "p99 < 3 ms"
			b.table.add(r)
		}
	}
	return nil
}

// middle walks half of a list by its cursors and returns the query of the page
// there.
func (s *server) middle(query string) (string, error) {
	c, err := dial(s.address)
	if err != nil {
		return "", err
	}
	defer c.close()
	var page struct {
		Total      int    `json:"total"`
		NextCursor string `json:"next_cursor"`
	}
	at := query
	for seen := 0; seen == 0 || seen < page.Total/2; seen += 100 {
		if err := c.want(200, "GET", at+"&limit=100", s.root, ""); err != nil {
			return "", err
		}
		page.NextCursor = ""
		if err := json.Unmarshal(c.body, &page); err != nil {
			return "", err
		}
		if page.NextCursor == "" {
			return "", fmt.Errorf("%s ends after %d of %d", query, seen, page.Total)
		}
		at = query + "&cursor=" + page.NextCursor
	}
	return at, nil
}
