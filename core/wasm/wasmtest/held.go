package wasmtest

import (
	"io/fs"
	"path"
)

// Held is a plugin as a binary brings it, whose load can be held up for as long as a test
// likes.
type Held struct {
	// Reading gets one each time that a load has come to where it is held up.
	Reading chan struct{}

	module []byte
	next   chan chan struct{} // of the load that is held up
}

// NewHeld returns the plugin, with Manifest as its manifest.
func NewHeld(module []byte) *Held {
	return &Held{Reading: make(chan struct{}, 1), module: module, next: make(chan chan struct{}, 1)}
}

// Hold holds up the load that reads next, until release is called.
func (h *Held) Hold() (release func()) {
	until := make(chan struct{})
	h.next <- until
	return func() { close(until) }
}

// Read reads a file of the plugin, whatever its name.
func (h *Held) Read(name string) ([]byte, error) {
	select {
	case until := <-h.next:
		h.Reading <- struct{}{}
		<-until
	default:
	}
	switch path.Base(name) {
	case "plugin.yaml":
		return []byte(Manifest), nil
	case "guest.wasm":
		return h.module, nil
	}
	return nil, fs.ErrNotExist
}
