package main

import (
	"io"
	"net/http"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
)

// slowUpload begins an upload whose body ends only when the returned function is
// called, and waits until it is under way.
func slowUpload(t *testing.T, s *apptest.Server, key, name string) (finish func() int) {
	t.Helper()
	body, feed := io.Pipe()
	status := make(chan int, 1)
	go func() {
		r, err := http.NewRequest("POST", s.URL+"/projects/p/files?name="+name, body)
		if err != nil {
			status <- 0
			return
		}
		r.Header.Set("Authorization", "Bearer "+key)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			status <- -1 // the connection was cut
			return
		}
		defer answer.Body.Close()
		status <- answer.StatusCode
	}()
	if _, err := feed.Write([]byte("begun")); err != nil {
		t.Fatal(err)
	}
	apptest.Eventually(t, "the upload runs", func() bool {
		return len(s.Want(200, s.Root, "GET /operations?status=in_progress&operation=register_file", "").List("operations")) > 0
	})
	return func() int {
		_, _ = feed.Write([]byte(" and ended")) // the server may have stopped reading
		_ = feed.Close()
		return <-status
	}
}

func TestRefusedDeletionEndsNoUpload(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "p")
	finish := slowUpload(t, s, key, "kept")
	s.Want(412, s.Root, "DELETE /projects/p", "", `If-Match: "stale"`)
	s.Want(412, s.Root, "DELETE /projects/p?purge=true", "", `If-Match: "stale"`)
	if got := finish(); got != 201 {
		t.Errorf("the upload was answered %d", got)
	}
}

func TestDeletionWinsOverAnUploadThatRuns(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "p")
	finish := slowUpload(t, s, key, "lost")
	s.Want(204, s.Root, "DELETE /projects/p", "")
	if got := finish(); got == 201 {
		t.Error("the upload succeeded in a deleted project")
	}
	s.Want(200, s.Root, "POST /projects/p/undelete", "")
	if files := s.Want(200, s.Root, "GET /projects/p/files?include_staged=true", "").List("files"); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
	finish = slowUpload(t, s, key, "lost")
	s.Want(204, s.Root, "DELETE /projects/p?purge=true", "")
	if got := finish(); got == 201 {
		t.Error("the upload succeeded in a purged project")
	}
}
