package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
)

// memory returns a figure of the process's memory in bytes: VmRSS, or VmHWM, the
// most that it ever had.
func (c *child) memory(t *testing.T, name string) (kb int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), name+":")
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return kb << 10
}

// A file goes in and out without the server holding it, whether its length is
// told or not. EIDER_TORTURE_FILE_MIB sets its size.
func TestMemoryDoesNotGrowWithAFile(t *testing.T) {
	t.Parallel()
	const most = 100 << 20
	size := int64(setting(t, "EIDER_TORTURE_FILE_MIB", 192)) << 20
	c := serve(t, t.TempDir())
	key := c.Want(201, childKey, "POST /projects", `{"id":"sales"}`).Text("api_key")
	before := c.memory(t, "VmRSS")
	for _, length := range []int64{size, -1} {
		sum := sha256.New()
		body := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sum)
		r, err := http.NewRequest("POST", c.URL+"/projects/sales/files?name=large", body)
		must(t, err)
		r.ContentLength = length
		r.Header.Set("Authorization", "Bearer "+key)
		a, err := http.DefaultClient.Do(r)
		must(t, err)
		var made struct {
			ID     string
			SHA256 string `json:"checksum_sha256"`
		}
		must(t, json.NewDecoder(a.Body).Decode(&made))
		_ = a.Body.Close()
		if want := hex.EncodeToString(sum.Sum(nil)); a.StatusCode != 201 || made.SHA256 != want {
			t.Fatalf("answered %d %v, want %s", a.StatusCode, made, want)
		}
		r, err = http.NewRequest("GET", c.URL+"/projects/sales/files/"+made.ID+"/download", nil)
		must(t, err)
		r.Header.Set("Authorization", "Bearer "+key)
		a, err = http.DefaultClient.Do(r)
		must(t, err)
		sum = sha256.New()
		n, err := io.Copy(sum, a.Body)
		_ = a.Body.Close()
		if err != nil || n != size || hex.EncodeToString(sum.Sum(nil)) != made.SHA256 {
			t.Errorf("%d bytes came back: %v", n, err)
		}
		c.Want(204, key, "DELETE /projects/sales/files/"+made.ID, "")
	}
	if grown := c.memory(t, "VmHWM") - before; grown > most {
		t.Errorf("it grew by %d bytes", grown)
	}
	c.stop(t)
}
