package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// most returns the most memory that a process ever held, in bytes.
func most(t *testing.T, pid int) (kb int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// The rows of this answer are some 300 MB, in either process.
func TestMemoryDoesNotGrowWithAnAnswer(t *testing.T) {
	t.Parallel()
	const rows = 1_000_000
	c := serve(t, t.TempDir())
	c.Want(201, childKey, "POST /projects", `{"id":"p"}`)
	c.Want(200, childKey, "POST /projects/p/query", statement("SELECT 1"))
	before := c.memory(t, "VmHWM")
	for _, f := range forms {
		r, err := http.NewRequest("POST", c.URL+"/projects/p/query", strings.NewReader(statement("SELECT range AS id, repeat('x', 300) AS filler FROM range(1000000)", `"max_rows":2000000`)))
		must(t, err)
		r.Header.Set("Authorization", "Bearer "+childKey)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", f)
		a, err := http.DefaultClient.Do(r)
		must(t, err)
		n, err := io.Copy(io.Discard, a.Body)
		_ = a.Body.Close()
		if a.StatusCode != 200 || err != nil || n < 300*rows {
			t.Errorf("%s: %d, %d bytes: %v", f, a.StatusCode, n, err)
		}
	}
	if grown := c.memory(t, "VmHWM") - before; grown > 100<<20 {
		t.Errorf("the server grew by %d MiB", grown>>20)
	}
	for _, pid := range workersOf(t, c.cmd.Process.Pid) {
		if held := most(t, pid); held > 300<<20 {
			t.Errorf("a worker held %d MiB", held>>20)
		}
	}
	c.stop(t)
}

var forms = []string{"application/json", "application/x-ndjson", "text/csv", "application/vnd.apache.arrow.stream"}

// A statement that takes all it can get is ended. The server answers throughout,
// neighbours in other projects are right, and the project is back at once.
func TestBombsCostNobodyElseAnything(t *testing.T) {
	t.Parallel()
	s, keys := startQueries(t, map[string]string{"projects.kill_after": "300ms", "projects.memory": "128MiB", "projects.max_temp": "32MiB"})
	s.Want(201, s.Root, "POST /projects", `{"id":"q"}`)
	for _, bomb := range []string{
		"SELECT length(repeat(repeat('x',1000000),3000))",
		"SELECT len(range(200000000))",
		"SELECT len(list_transform(range(100000000), lambda x: x * 2))",
		"SELECT levenshtein(repeat('a', 400000), repeat('b', 400000))",
		"SELECT count(*) FROM range(10000000) a, range(10000000) b",
		"SELECT count(*) FROM (SELECT DISTINCT range, repeat('x', 100) FROM range(100000000))", // its temporary files are full
	} {
		ended := make(chan string, 1)
		go func() {
			a, err := s.Try(keys["read"], "POST /projects/p/query", statement(bomb, `"timeout_ms":1000`))
			ended <- fmt.Sprintf("%d %s %v", a.Status, a.Code(), err)
		}()
		how := ""
		for how == "" {
			s.Want(200, "", "GET /health", "")
			if a := s.Want(200, s.Root, "POST /projects/q/query", statement("SELECT sum(range) AS n FROM range(1000)")); !strings.Contains(string(a.Body), `{"n":499500}`) {
				t.Errorf("the neighbour got %s", a.Body)
			}
			select {
			case how = <-ended:
			default:
			}
		}
		if how != "408 query_timeout <nil>" && how != "422 out_of_memory <nil>" {
			t.Errorf("%s ended as %s", bomb, how)
		}
		s.Want(200, keys["read"], "POST /projects/p/query", statement("SELECT 1"))
	}
}
