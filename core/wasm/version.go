package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/eiderdb/eider/core/wasm/fuel"
	"github.com/tetratelabs/wazero"
)

// version is a plugin as it was loaded once: reloading makes another one.
type version struct {
	item           Item
	host           *Host
	manifest       Manifest
	sha256         string
	manifestSHA256 string
	signedBy       string
	config         []byte
	granted        []string
	filter         *filter
	sender         *sender // nil without http
	kv             *space  // nil without kv
	lines          *lines
	tried          *lines // of guests that are asked without effect: they take no room from those that answer calls

	code     *code
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	hasStart bool
	pool     *pool
}

// source is what lies at an item's path.
type source struct {
	manifest, module, signature []byte
	parsed                      Manifest
}

// maxFile is how large a file of a plugin may be, which is as large as a module may.
const maxFile = 32 << 20

// builtin begins the paths of plugins that the binary brings.
const builtin = "builtin:"

// read reads manifest, module and signature. With an error it returns what it has
// come to: a manifest is whole or not there.
func (h *Host) read(path string) (source, error) {
	var s source
	read := readFile
	if name, ours := strings.CutPrefix(path, builtin); ours {
		if h.Builtin == nil {
			return s, fmt.Errorf("this binary has no plugins of its own: it was built without them (make build)")
		}
		path, read = name, h.Builtin
	} else if !filepath.IsAbs(path) {
		path = filepath.Join(h.Dir, path)
	}
	folder := path
	if ext := filepath.Ext(path); ext == ".wasm" || ext == ".yaml" {
		folder = filepath.Dir(path)
	}
	var err error
	if s.manifest, err = read(filepath.Join(folder, "plugin.yaml")); err != nil {
		return s, err
	}
	if s.parsed, err = ParseManifest(s.manifest); err != nil {
		return source{}, err
	}
	module := filepath.Join(folder, s.parsed.Module)
	if filepath.Ext(path) == ".wasm" {
		module = path
	}
	if s.module, err = read(module); err != nil {
		return s, err
	}
	s.signature, err = read(filepath.Join(folder, "plugin.sig"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return s, err
}

// readFile reads a regular file. Opening anything else, such as a pipe, could wait for
// ever.
func readFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", name, info.Size(), maxFile)
	}
	return io.ReadAll(io.LimitReader(f, maxFile)) // it may grow meanwhile
}

// load makes a version of an item, with one guest that has proven itself.
func (h *Host) load(ctx context.Context, item Item) (*version, error) {
	s, err := h.read(item.Path)
	if err != nil {
		return nil, err
	}
	v := &version{item: item, host: h, manifest: s.parsed, sha256: digest(s.module), manifestSHA256: digest(s.manifest)}
	if err := v.trust(s); err != nil {
		return nil, err
	}
	if err := v.manifest.limits(item); err != nil {
		return nil, err
	}
	if v.config, err = v.manifest.configure(item.Config); err != nil {
		return nil, err
	}
	if err := v.grant(); err != nil {
		return nil, err
	}
	if v.filter, err = newFilter(v.manifest); err != nil {
		return nil, err
	}
	if err := v.compile(ctx, s.module); err != nil {
		return nil, errors.Join(err, v.end(ctx))
	}
	if err := v.prove(ctx); err != nil {
		return nil, errors.Join(err, v.end(ctx))
	}
	return v, nil
}

func (v *version) trust(s source) error {
	if pin := v.item.SHA256; pin != "" && !strings.EqualFold(pin, v.sha256) {
		return fmt.Errorf("the module's sha256 is %s, and %s is pinned", v.sha256, strings.ToLower(pin))
	}
	if is, pin := digest(s.manifest), v.item.ManifestSHA256; pin != "" && !strings.EqualFold(pin, is) {
		return fmt.Errorf("the manifest's sha256 is %s, and %s is pinned", is, strings.ToLower(pin))
	}
	var err error
	v.signedBy, err = v.host.signer(v.item.Path, s)
	if v.item.SHA256 != "" && v.item.ManifestSHA256 == "" && v.signedBy == "" {
		v.host.Log.Warn("a plugin's module is pinned, and its manifest is neither pinned nor signed: who can write it can spare the plugin any operation", "plugin", v.item.Name)
	}
	return err
}

// signer returns who of the trusted has signed it, "" where nobody has to: what comes
// with the binary is trusted as the binary is.
func (h *Host) signer(path string, s source) (string, error) {
	if strings.HasPrefix(path, builtin) {
		return "", nil
	}
	if len(s.signature) == 0 || len(h.Keys) == 0 {
		if h.RequireSignature {
			return "", fmt.Errorf("%w: there is no plugin.sig", ErrSignature)
		}
		return "", nil
	}
	key, err := Verify(h.Keys, s.module, s.manifest, string(s.signature))
	if err != nil {
		return "", err
	}
	return digest(key)[:16], nil
}

// grant gives what both the manifest asks for and the operator allows.
func (v *version) grant() error {
	for _, c := range v.item.Capabilities {
		if !slices.Contains(v.manifest.Capabilities, c) {
			return fmt.Errorf("capability %s is granted, and the manifest does not ask for it", c)
		}
		v.granted = append(v.granted, c)
	}
	log := v.host.Log.With("plugin", v.item.Name)
	v.lines, v.tried = newLines(log, v.has(capLog)), newLines(log.With("try", true), v.has(capLog))
	if v.has(capKV) {
		v.kv = v.host.KV.space(v.item.Name)
	}
	if v.has(capHTTP) {
		var err error
		if v.sender, err = newSender(v.manifest.HTTP.Hosts, v.item.HTTPHosts, v.item.HTTPPrivate); err != nil {
			return err
		}
	}
	return nil
}

func (v *version) has(capability string) bool { return slices.Contains(v.granted, capability) }

func (v *version) startFuel() int64 { return v.manifest.Limits.StartFuel }

// What a call is given for each byte of its message, beside the fuel of its limits, and
// the most that this comes to. To read a message costs by its size, whatever it says.
const (
	fuelPerByte  = 1000
	fuelForBytes = 100_000_000   // of a policy, for which a caller waits
	fuelForBatch = 1_000_000_000 // of a sink, which must take whatever the log holds
)

// callFuel returns the fuel of a call that is given so many bytes.
func (v *version) callFuel(message int) int64 {
	most := int64(fuelForBytes)
	if v.manifest.Kind == Sink {
		most = fuelForBatch
	}
	return v.manifest.Limits.Fuel + min(fuelPerByte*int64(message), most)
}

// checkImports refuses a module that asks for what nobody has.
func checkImports(imports []fuel.Import) error {
	for _, i := range imports {
		switch i.Module {
		case wasiModule:
		case hostModule:
			if !slices.ContainsFunc(hostFunctions, func(f hostFunction) bool { return f.name == i.Name }) {
				return fmt.Errorf("it imports %s.%s, which this server does not have", i.Module, i.Name)
			}
		case "env":
			if i.Name != "abort" {
				return fmt.Errorf("it imports %s.%s, which this server does not have", i.Module, i.Name)
			}
		default:
			return fmt.Errorf("it imports from %s, which this server does not have", cut(i.Module, 64))
		}
	}
	return nil
}

func (v *version) moduleConfig() wazero.ModuleConfig {
	return wazero.NewModuleConfig().WithName("").WithStartFunctions()
}

// prove makes the first guest and, of a policy, asks it about an event that never
// was: what it decides does not matter, that it decides does. It sees no kv.
func (v *version) prove(ctx context.Context) error {
	kv := v.kv
	if kv != nil {
		v.kv = newSpace("")
	}
	first, err := newGuest(ctx, v, nil)
	if err != nil {
		return err
	}
	if v.manifest.Kind == Policy {
		if _, _, err := first.decide(ctx, selfTest()); err != nil {
			return errors.Join(fmt.Errorf("the self-test: %w", err), first.close())
		}
	}
	v.kv = kv
	if kv != nil { // it may remember what it saw
		if err := first.close(); err != nil {
			return err
		}
		if first, err = newGuest(ctx, v, nil); err != nil {
			return err
		}
	}
	size := v.item.Guests
	if size == 0 {
		size = runtime.GOMAXPROCS(0)
	}
	v.pool = newPool(size, v.host.Log.With("plugin", v.item.Name), func(ctx context.Context) (*guest, error) { return newGuest(ctx, v, nil) })
	v.pool.fill(first)
	return nil
}

func selfTest() *Event {
	return &Event{
		Operation: "self_test", TimeMS: 1764225600000, Actor: EventActor{Type: "system", Name: "self-test", Role: "admin"},
		Resource: EventResource{Type: "server"}, Request: EventRequest{ID: "self-test", Method: "CALL", Route: "/"},
		Project: &EventProject{ID: "self-test", UID: "00000000-0000-7000-8000-000000000000", Name: "self-test", Status: "active", Settings: rawJSON("{}")},
		Input:   rawJSON("{}"),
	}
}

// end lets go of everything, once no call uses it any more.
func (v *version) end(ctx context.Context) error {
	if v.pool != nil {
		v.pool.close(func() { _ = v.release(ctx) })
		return nil
	}
	return v.release(ctx)
}

func (v *version) release(ctx context.Context) error {
	v.lines.flush()
	v.tried.flush()
	if v.sender != nil {
		v.sender.close()
	}
	var err error
	if v.runtime != nil {
		err = v.runtime.Close(ctx)
	}
	if v.code != nil {
		v.host.codes.give(v.code)
	}
	return err
}
