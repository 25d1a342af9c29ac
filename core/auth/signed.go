package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
)

// MaxSigned is the longest time for which a URL can be signed.
const MaxSigned = 7 * 24 * time.Hour

// signingKey signs URLs. A new one takes over from time to time; the old one
// verifies until the last URL that it signed has expired.
type signingKey struct {
	ID      string    `json:"id"`
	Secret  []byte    `json:"secret"`
	Created time.Time `json:"created"`
}

// URLs signs URLs and verifies them.
//
// A signature (HMAC-SHA-256) covers the method, the path, the expiry, the
// incarnation of the project and the key by whose right it was made: a URL opens
// this one thing, until it expires or its key is revoked. It stands in the query
// as key, by, expires, uid and signature.
type URLs struct {
	keys   *Keys
	path   string
	files  *disk.FS
	rotate time.Duration

	mu   sync.Mutex
	held []signingKey // newest last
}

// OpenURLs reads the secrets from the file, which is made if it does not exist.
// A new one is made when the newest is older than rotate.
func OpenURLs(path string, files *disk.FS, keys *Keys, rotate time.Duration) (*URLs, error) {
	u := &URLs{keys: keys, path: path, files: files, rotate: rotate}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read the keys of signed URLs: %w", errors.Unwrap(err))
	default:
		if err := json.Unmarshal(text, &u.held); err != nil {
			return nil, fmt.Errorf("read the keys of signed URLs: %w", err)
		}
	}
	return u, u.Rotate(time.Now())
}

// Rotate makes a new secret if one is due, and drops those whose last URL has
// expired.
func (u *URLs) Rotate(now time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := len(u.held); n > 0 && now.Sub(u.held[n-1].Created) < u.rotate {
		return nil
	}
	kept := make([]signingKey, 0, len(u.held)+1)
	for i, k := range u.held {
		replaced := now
		if i+1 < len(u.held) {
			replaced = u.held[i+1].Created
		}
		if now.Sub(replaced) <= MaxSigned {
			kept = append(kept, k)
		}
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	id := make([]byte, 4)
	_, _ = rand.Read(id)
	kept = append(kept, signingKey{hex.EncodeToString(id), secret, now.UTC()})
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	if err := u.files.WriteFile(u.path, text, 0o600); err != nil {
		return fmt.Errorf("write the keys of signed URLs: %w", err)
	}
	u.held = kept
	return nil
}

// Tend replaces the secret when it is due, until ctx ends.
func (u *URLs) Tend(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if err := u.Rotate(now); err != nil {
				log.Error("the secret that signs URLs could not be replaced", "error", err)
			}
		}
	}
}

// signedMethods says what a URL that was signed for a method may be used for.
var signedMethods = map[string]string{"GET": "GET", "HEAD": "GET", "PUT": "PUT", "POST": "PUT"}

// Sign returns the path with a signature, good for the method (GET, with HEAD;
// or PUT, with POST) until it expires. It gives no more than the actor may do.
func (u *URLs) Sign(method, path string, by eider.Actor, project eider.Project, expires time.Time) string {
	u.mu.Lock()
	k := u.held[len(u.held)-1]
	u.mu.Unlock()
	c := claims{method, path, k.ID, by.ID, u.holder(by.ID), project.ID, project.UID, expires.Unix()}
	q := url.Values{}
	q.Set("by", c.by)
	q.Set("expires", strconv.FormatInt(c.expires, 10))
	q.Set("key", c.key)
	q.Set("uid", c.uid)
	q.Set("signature", c.sign(k.Secret))
	return path + "?" + q.Encode()
}

type claims struct {
	method, path, key, by, holder, project, uid string
	expires                                     int64
}

// holder is what a signature covers besides the id of the key by whose right it
// was made: the root key has no row that could be revoked, but it can be replaced.
func (u *URLs) holder(by string) string {
	if by != "" {
		return ""
	}
	return hex.EncodeToString(*u.keys.root.Load())
}

func (c claims) sign(secret []byte) string {
	mac := hmac.New(sha256.New, secret)
	for _, part := range []string{"eider url 1", c.method, c.path, c.key, c.by, c.holder, c.project, c.uid, strconv.FormatInt(c.expires, 10)} {
		fmt.Fprintf(mac, "%d:%s\n", len(part), part)
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// Verify returns the actor of a signed URL, given as it came.
func (u *URLs) Verify(ctx context.Context, v *metadata.View, method, target string) (eider.Actor, error) {
	path, query, _ := strings.Cut(target, "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		return eider.Actor{}, wrongURL()
	}
	expires, err := strconv.ParseInt(q.Get("expires"), 10, 64)
	project, ok := projectIn(path)
	if err != nil || !ok || strconv.FormatInt(expires, 10) != q.Get("expires") { // as it was signed, to the letter
		return eider.Actor{}, wrongURL()
	}
	c := claims{signedMethods[method], path, q.Get("key"), q.Get("by"), u.holder(q.Get("by")), project, q.Get("uid"), expires}
	secret, ok := u.secret(c.key)
	if !ok || !hmac.Equal([]byte(c.sign(secret)), []byte(q.Get("signature"))) {
		// A resumable upload asks by HEAD where it stands.
		c.method = "PUT"
		if method != "HEAD" || !ok || !hmac.Equal([]byte(c.sign(secret)), []byte(q.Get("signature"))) {
			return eider.Actor{}, wrongURL()
		}
	}
	if time.Now().Unix() >= expires {
		return eider.Actor{}, eider.Errorf(eider.Unauthorized, "this signed URL has expired")
	}
	if !u.mayStill(ctx, v, c.by) {
		return eider.Actor{}, wrongURL()
	}
	role := eider.ProjectRead
	if c.method == "PUT" {
		role = eider.ProjectWrite
	}
	return eider.Actor{
		Type: eider.ActorSignedURL, ID: c.by, Name: "signed URL", Role: role, ProjectID: project, ProjectUID: c.uid,
	}, nil
}

// byLocal is the id of commands over the local socket, which have no key.
const byLocal = "admin.sock"

// mayStill reports whether the key that signed still opens anything. The root
// key and local commands have no id.
func (u *URLs) mayStill(ctx context.Context, v *metadata.View, by string) bool {
	if by == "" || by == byLocal {
		return true
	}
	key, err := u.keys.table.Get(ctx, v, by)
	return err == nil && key.Live(time.Now())
}

func (u *URLs) secret(id string) ([]byte, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, k := range u.held {
		if k.ID == id {
			return k.Secret, true
		}
	}
	return nil, false
}

// projectIn returns the project that the path of a request concerns.
func projectIn(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, "/projects/")
	id, _, more := strings.Cut(rest, "/")
	return id, ok && more && eider.CheckProjectID(id) == nil
}

func wrongURL() error {
	return eider.Errorf(eider.Unauthorized, "this signed URL is not valid")
}
