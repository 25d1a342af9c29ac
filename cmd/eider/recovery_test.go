package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/usage"
)

// stored uploads and registers a file, and returns its id and the path of its bytes.
func stored(t *testing.T, s *apptest.Server, key, project, name, content string) (id, path string) {
	t.Helper()
	a := s.Want(201, key, "POST /projects/"+project+"/files?name="+name, content, "Content-Type: text/plain")
	return a.Text("id"), filepath.Join(s.Dir, "files", a.Text("path"))
}

// findings returns what a check found, sorted, as "kind resource".
func findings(t *testing.T, a apptest.Answer) []string {
	t.Helper()
	var all []string
	for _, f := range a.List("findings") {
		all = append(all, f["kind"].(string)+" "+f["resource"].(string))
	}
	slices.Sort(all)
	return all
}

func wantFindings(t *testing.T, a apptest.Answer, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := findings(t, a); !slices.Equal(got, want) {
		t.Errorf("found were\n  %s\nnot\n  %s\n%s", strings.Join(got, "\n  "), strings.Join(want, "\n  "), a.Body)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Every kind of damage is found, told by a dry run that changes nothing, and put
// right by operations that each leave a row; then nothing is left to find.
func TestRepairPutsRightEveryKindOfFinding(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "p")
	project(t, s, "gone")
	project(t, s, "empty")
	whole, _ := stored(t, s, key, "p", "whole", "whole bytes")
	missing, missingPath := stored(t, s, key, "p", "missing", "bytes that will go")
	short, shortPath := stored(t, s, key, "p", "short", "bytes that will be cut")
	flipped, flippedPath := stored(t, s, key, "p", "flipped", "bytes that will flip")
	s.Want(200, key, "POST /projects/p/files/prepare", `{"filename":"staged"}`)
	folder := func(id string) string {
		return filepath.Dir(filepath.Dir(s.Want(200, s.Root, "GET /projects/"+id, "").Text("db_path")))
	}
	gone := folder("gone")
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""))

	remove(t, filepath.Join(s.Dir, gone))
	remove(t, missingPath)
	overwrite(t, shortPath, "bytes")
	overwrite(t, flippedPath, "bytes that will flop")
	stray := "files/" + filepath.Join("01a20000-0000-7000-8000-000000000000", "ab", "01a20000-0000-7000-8000-0000000000ab")
	overwrite(t, filepath.Join(s.Dir, stray), "nobody's")
	orphan := "duckdb/project_nobody.12345678"
	overwrite(t, filepath.Join(s.Dir, orphan, "db", "data.duckdb"), "nobody's")
	alter(t, s, "empty")

	shallow := []string{
		"missing_database project:gone", "orphan_database " + orphan, "missing_file file:" + missing, "orphan_file " + stray,
		"size_drift file:" + short, "counter_drift project:empty",
	}
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency", ""), shallow...)
	deep := append(slices.Clone(shallow), "checksum_mismatch file:"+flipped)
	a := s.Want(200, s.Root, "GET /health/consistency?deep=true", "")
	wantFindings(t, a, deep...)
	if strings.Contains(string(a.Body), s.Dir) {
		t.Errorf("the answer names a path of the server: %s", a.Body)
	}
	// What a deep look has found every later one knows.
	apptest.Eventually(t, "the word about the file is kept", func() bool {
		return slices.Contains(findings(t, s.Want(200, s.Root, "GET /health/consistency", "")), "checksum_mismatch file:"+flipped)
	})

	for id, intact := range map[string]bool{whole: true, flipped: false} {
		apptest.Eventually(t, "its verification is shown", func() bool {
			v := s.Want(200, key, "GET /projects/p/files/"+id+"/verification", "")
			return v.JSON["verified_at"] != nil && v.JSON["intact"] == intact && v.Text("file_id") == id
		})
	}
	dry := s.Want(200, s.Root, "POST /admin/repair", "")
	wantFindings(t, dry, deep...)
	if dry.JSON["dry_run"] != true || dry.JSON["repaired"] != 0.0 {
		t.Errorf("a dry run answered %s", dry.Body)
	}
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency", ""), deep...)
	s.Want(422, s.Root, "POST /admin/repair", `{"kinds":["everything"]}`)
	some := s.Want(200, s.Root, "POST /admin/repair", `{"dry_run":false,"kinds":["orphan_file","size_drift"]}`)
	wantFindings(t, some, "orphan_file "+stray, "size_drift file:"+short)

	before := s.App.Kernel.Audit.Head().ID
	done := s.Want(200, s.Root, "POST /admin/repair", `{"dry_run":false}`)
	if done.JSON["repaired"] != 5.0 || done.JSON["failed"] != 0.0 {
		t.Errorf("it answered %s", done.Body)
	}
	rows := strings.Join(s.Rows(before), ", ")
	if n := strings.Count(rows, "repair success"); n != 6 { // five repairs and the call itself
		t.Errorf("the log got %s", rows)
	}
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""))
	if v := s.Want(200, s.Root, "GET /operations/verify", ""); v.JSON["verified"] != true {
		t.Errorf("the chain does not hold: %s", v.Body)
	}

	// Nothing was deleted: what was moved lies in lost+found.
	var kept []string
	filepath.WalkDir(filepath.Join(s.Dir, "lost+found"), func(path string, d os.DirEntry, err error) error {
		if text, readErr := os.ReadFile(path); readErr == nil {
			kept = append(kept, string(text))
		}
		return err
	})
	for _, content := range []string{"bytes", "bytes that will flop", "nobody's"} {
		if !slices.Contains(kept, content) {
			t.Errorf("%q is not in lost+found, which holds %q", content, kept)
		}
	}
	p := s.Want(200, s.Root, "GET /projects/gone", "")
	if p.Text("status") != "locked" || !strings.Contains(p.Text("lock_reason"), "missing") {
		t.Errorf("the project whose database was missing is %s", p.Body)
	}
	s.Want(200, s.Root, "GET /projects/gone/buckets", "")
	s.Want(200, key, "GET /projects/p/files/"+whole+"/download", "")
	s.Want(404, key, "GET /projects/p/files/"+flipped, "")
	if used := s.Want(200, key, "GET /projects/p/stats", ""); used.JSON["file_count"] != 1.0 {
		t.Errorf("after the repair the project has %s", used.Body)
	}
}

// alter changes what usage says of a project without counting anything.
func alter(t *testing.T, s *apptest.Server, id string) {
	t.Helper()
	book := s.App.Kernel.Usage
	p, _ := s.App.Kernel.Register.Project(id)
	_, err := s.App.Kernel.Pipeline.Store.Write(t.Context(), func(tx *metadata.Tx) error {
		return book.Add(t.Context(), tx, p.UID, usage.Amounts{Files: 3, Bytes: 7})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A call that is stuck is given up by a repair: its resource is free again.
func TestRepairGivesUpStuckOperations(t *testing.T) {
	s := apptest.Start(t, t.TempDir(), app.Options{Modules: append(modules(), sticky{})}, nil)
	s.Want(500, s.Root, "POST /stuck", "")
	s.Want(409, s.Root, "POST /stuck", "")
	apptest.Eventually(t, "the call is stuck", func() bool {
		return len(findings(t, s.Want(200, s.Root, "GET /health/consistency", ""))) == 1
	})
	done := s.Want(200, s.Root, "POST /admin/repair", `{"dry_run":false,"kinds":["stuck_operation"]}`)
	if done.JSON["repaired"] != 1.0 {
		t.Fatalf("it answered %s", done.Body)
	}
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency", ""))
	row := s.Want(200, s.Root, "GET /operations?operation=get_stuck&limit=1", "").List("operations")[0]
	if row["status"] != "failed" || !strings.Contains(fmt.Sprint(row["details"]), "abandoned") {
		t.Errorf("its last row is %v", row)
	}
	s.Want(500, s.Root, "POST /stuck", "") // not 409: the resource is free
	s.Stop()

	s = apptest.Start(t, s.Dir, options(), nil) // no version of it is known any more
	if got := findings(t, s.Want(200, s.Root, "GET /health/consistency", "")); len(got) != 1 {
		t.Fatalf("found were %v", got)
	}
	s.Want(200, s.Root, "POST /admin/repair", `{"dry_run":false}`)
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency", ""))
	s.Stop()
	s = apptest.Start(t, s.Dir, options(), nil)
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency", ""))
}

// An upload that is complete was acknowledged: its bytes are looked for as a file's,
// and a repair gives up what is damaged. One that is not whole is nobody's finding.
func TestDamagedUploadsAreFoundAndRepaired(t *testing.T) {
	s := start(t, nil)
	key := project(t, s, "p")
	uploads := map[string]string{}
	for _, name := range []string{"gone", "short", "flipped", "whole", "part"} {
		made := s.Want(200, key, "POST /projects/p/files/prepare", `{"filename":"`+name+`"}`)
		header := "Content-Type: text/plain"
		if name == "part" {
			header = "Content-Range: bytes 0-4/10"
		}
		up := s.Want(200, key, "PUT "+made.Text("upload_url"), "bytes", header)
		path := filepath.Join(s.Dir, "files", up.Text("staging_path"))
		uploads[name] = made.Text("upload_key")
		switch name {
		case "gone":
			remove(t, path)
		case "short":
			overwrite(t, path, "by")
		case "flipped":
			overwrite(t, path, "bytez")
		}
	}
	gone, short, flipped := "missing_file file:"+uploads["gone"], "size_drift file:"+uploads["short"], "checksum_mismatch file:"+uploads["flipped"]
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency", ""), gone, short)
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""), gone, short, flipped)
	if r := s.Want(200, s.Root, "POST /admin/repair", `{"dry_run":false,"deep":true}`); r.JSON["repaired"] != 3.0 {
		t.Errorf("the repair says %s", r.Body)
	}
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""))
	for _, name := range []string{"gone", "short", "flipped"} {
		s.Want(404, key, "POST /projects/p/files", `{"upload_key":"`+uploads[name]+`"}`)
	}
	s.Want(201, key, "POST /projects/p/files", `{"upload_key":"`+uploads["whole"]+`"}`)
	s.Stop()
	s = apptest.Start(t, s.Dir, options(), nil) // nothing of it is reserved, or left
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""))
}

// What is lost beside the bytes of a file or in a project's folder costs nobody the file
// or the project: it is written again from the register, from which it came.
func TestLostSidecarsAreFoundAndWrittenAgain(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "lost")
	project(t, s, "empty")
	project(t, s, "other")
	beside, id := map[string]string{}, map[string]string{}
	for _, name := range []string{"lost", "empty", "garbage", "other", "sums", "folder"} {
		file, path := stored(t, s, key, "lost", name, name)
		beside[name], id[name] = path+".json", file
	}
	made := s.Want(200, key, "POST /projects/lost/files/prepare", `{"filename":"upload"}`)
	up := s.Want(200, key, "PUT "+made.Text("upload_url"), "bytes", raw)
	beside["upload"] = filepath.Join(s.Dir, "files", up.Text("staging_path")+".json")
	for _, p := range []string{"lost", "empty", "other"} {
		path := s.Want(200, s.Root, "GET /projects/"+p, "").Text("db_path")
		beside["project "+p] = filepath.Join(s.Dir, filepath.Dir(filepath.Dir(path)), "project.json")
	}
	was := map[string]string{}
	apptest.Eventually(t, "sidecars are written", func() bool {
		for name, path := range beside {
			text, err := os.ReadFile(path)
			if was[name] = string(text); err != nil || !strings.Contains(was[name], `"log_id":`) {
				return false
			}
		}
		return true
	})
	other := was["other"]
	for name, path := range beside {
		remove(t, path)
		switch strings.TrimPrefix(name, "project ") {
		case "empty":
			overwrite(t, path, "")
		case "garbage":
			overwrite(t, path, "{bad")
		case "other":
			overwrite(t, path, strings.Replace(other, "other", "another", 1))
		case "sums":
			overwrite(t, path, "{}")
		case "folder":
			overwrite(t, filepath.Join(path, "x"), "x")
		}
	}
	rel := func(name string) string { return strings.TrimPrefix(beside[name], s.Dir+"/") }
	shallow := []string{"orphan_file " + rel("folder")}
	for _, name := range []string{"lost", "empty", "folder", "upload", "project lost", "project empty"} {
		shallow = append(shallow, "checksum_mismatch "+rel(name))
	}
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency", ""), shallow...)
	deep := slices.Clone(shallow)
	for _, name := range []string{"garbage", "sums", "project other"} {
		deep = append(deep, "checksum_mismatch "+rel(name))
	}
	wantFindings(t, s.Want(200, s.Root, "POST /admin/repair", `{"deep":true}`), deep...)
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""), deep...)
	if done := s.Want(200, s.Root, "POST /admin/repair", `{"dry_run":false,"deep":true}`); done.JSON["repaired"] != float64(len(deep)) {
		t.Errorf("the repair says %s", done.Body)
	}
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""))
	withoutLog := regexp.MustCompile(`,"log_id":\d+`)
	for name, path := range beside {
		text, err := os.ReadFile(path)
		if err != nil || name != "other" && withoutLog.ReplaceAllString(string(text), "") != withoutLog.ReplaceAllString(was[name], "") {
			t.Errorf("%s has %s\nand had %s (%v)", name, text, was[name], err)
		}
	}
	for name := range id {
		if a := s.Want(200, key, "GET /projects/lost/files/"+id[name]+"/download", ""); string(a.Body) != name {
			t.Errorf("%s holds %s", name, a.Body)
		}
	}
	s.Want(201, key, "POST /projects/lost/files", `{"upload_key":"`+made.Text("upload_key")+`"}`)
}

// Nothing but what the server keeps may lie in its folders, and links are moved as
// what they are: what they lead to is touched by nobody.
func TestWhatIsNotTheServersIsFoundAndMovedAside(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	key := project(t, s, "p")
	file, path := stored(t, s, key, "p", "kept", "kept")
	folder := filepath.Dir(filepath.Dir(s.Want(200, s.Root, "GET /projects/p", "").Text("db_path")))
	fan := strings.TrimPrefix(filepath.Dir(path), s.Dir+"/")
	uid := filepath.Dir(fan)
	outside := t.TempDir()
	overwrite(t, filepath.Join(outside, "lock"), "")
	overwrite(t, filepath.Join(outside, "aa", "01a20000-0000-7000-8000-0000000000aa"), "theirs")

	const nobody = "01a20000-0000-7000-8000-0000000000ab"
	strays := []string{
		"files/stray", "files/zz", "files/" + nobody + "/long", uid + "/zz/" + nobody, fan + "/odd name", fan + "/" + filepath.Base(path) + ".bak",
	}
	for _, stray := range strays {
		if stray == "files/zz" {
			overwrite(t, filepath.Join(s.Dir, stray, "aa", "foo"), stray)
			continue
		}
		overwrite(t, filepath.Join(s.Dir, stray), stray)
	}
	alone := uid + "/ab/" + nobody + ".json"
	overwrite(t, filepath.Join(s.Dir, alone), alone)
	strays = append(strays, alone)
	links := []string{"files/link", "files/" + nobody[:35] + "c", uid + "/ln", fan + "/" + nobody[:34] + fan[len(fan)-2:], "duckdb/link", folder + "/link"}
	for _, link := range links {
		if err := os.Symlink(outside, filepath.Join(s.Dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	overwrite(t, filepath.Join(s.Dir, "duckdb", "stray"), "stray")
	overwrite(t, filepath.Join(s.Dir, folder, "stray"), "stray")
	overwrite(t, filepath.Join(s.Dir, folder, "db", "extra.duckdb"), "stray")
	overwrite(t, filepath.Join(s.Dir, folder, "in", "x", "y"), "stray")

	shallow := []string{"orphan_database duckdb/stray", "orphan_database duckdb/link"}
	for _, path := range append(strays, links[:4]...) {
		shallow = append(shallow, "orphan_file "+path)
	}
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency", ""), shallow...)
	deep := append(shallow, "orphan_database "+folder+"/stray", "orphan_database "+folder+"/link",
		"orphan_database "+folder+"/db/extra.duckdb", "orphan_database "+folder+"/in/x")
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""), deep...)
	if done := s.Want(200, s.Root, "POST /admin/repair", `{"dry_run":false,"deep":true}`); done.JSON["repaired"] != float64(len(deep)) {
		t.Errorf("the repair says %s", done.Body)
	}
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""))
	kept, linked := 0, 0
	filepath.WalkDir(filepath.Join(s.Dir, "lost+found"), func(path string, d os.DirEntry, err error) error {
		if d.Type()&os.ModeSymlink != 0 {
			linked++
		} else if d.Type().IsRegular() {
			kept++
		}
		return err
	})
	if kept != len(strays)+4 || linked != len(links) {
		t.Errorf("lost+found holds %d files and %d links", kept, linked)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 2 {
		t.Errorf("behind the links is %v (%v)", entries, err)
	}
	s.Want(200, key, "GET /projects/p/files/"+file+"/download", "")

	// A link in the place of bytes that the register has is left to people.
	mustDo(t, os.Rename(path, filepath.Join(outside, "kept")))
	mustDo(t, os.Symlink(filepath.Join(outside, "kept"), path))
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency?deep=true", ""), "orphan_file "+path[len(s.Dir)+1:])
	mustDo(t, os.Rename(filepath.Join(outside, "kept"), path))
	mustDo(t, os.Rename(filepath.Dir(path), filepath.Join(outside, "fan")))
	mustDo(t, os.Symlink(filepath.Join(outside, "fan"), filepath.Dir(path)))
	done := s.Want(200, s.Root, "POST /admin/repair", `{"dry_run":false,"deep":true}`)
	wantFindings(t, done, "orphan_file "+fan)
	if done.JSON["repaired"] != 0.0 || done.List("findings")[0]["status"] != "manual" {
		t.Errorf("the repair says %s", done.Body)
	}
	s.Want(200, key, "GET /projects/p/files/"+file+"/download", "")

	// A folder in their place is no bytes, and is moved aside.
	mustDo(t, os.Remove(filepath.Dir(path)))
	mustDo(t, os.Rename(filepath.Join(outside, "fan"), filepath.Dir(path)))
	folded, place := stored(t, s, key, "p", "folded", "folded")
	remove(t, place)
	overwrite(t, filepath.Join(place, "inside"), "inside")
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency", ""), "missing_file file:"+folded, "orphan_file "+place[len(s.Dir)+1:])
	if done := s.Want(200, s.Root, "POST /admin/repair", `{"dry_run":false}`); done.JSON["repaired"] != 2.0 {
		t.Errorf("the repair says %s", done.Body)
	}
	wantFindings(t, s.Want(200, s.Root, "GET /health/consistency", ""))
}
