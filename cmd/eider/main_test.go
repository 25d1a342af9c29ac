package main

import (
	"os"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/rogpeppe/go-internal/testscript"
)

// forTests begins the names of variables that are for tests and their children.
// Where they reached the command it would refuse to run: they are no settings.
var forTests = []string{"EIDER_TEST_", "EIDER_FAULTS", "EIDER_TORTURE_"}

// TestMain lets the test binary be the eider command for scripts and for tests
// that kill it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" { // of a server of these tests
		main()
		os.Exit(0)
	}
	if os.Getenv("EIDER_TEST_AS_COMMAND") != "" {
		beChild()
		main()
		os.Exit(0)
	}
	testscript.Main(m, map[string]func(){"eider": main})
}

func start(t *testing.T, settings map[string]string) *apptest.Server {
	t.Helper()
	return apptest.Start(t, t.TempDir(), app.Options{Modules: modules(), Version: "test"}, settings)
}

// project makes a project and returns its first key.
func project(t *testing.T, s *apptest.Server, id string) string {
	t.Helper()
	return s.Want(201, s.Root, "POST /projects", `{"id":"`+id+`"}`).Text("api_key")
}
