package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/eiderdb/eider/core/disk"
)

// Checkpoint says, signed, that the chain once had this head.
type Checkpoint struct {
	ID        int64     `json:"id"`
	Hash      string    `json:"hash"`
	Time      time.Time `json:"time"`
	Epoch     int64     `json:"epoch,omitempty"`
	Key       string    `json:"key"` // first 8 bytes of SHA-256 of the public key, hex
	Signature string    `json:"signature"`

	altered bool // it was kept under this key and does not carry its signature
}

func (c *Checkpoint) message() []byte {
	text := fmt.Appendf(nil, "eider checkpoint\n%d\n%s\n%d\n", c.ID, c.Hash, c.Time.UnixMicro())
	if c.Epoch != 0 {
		text = fmt.Appendf(text, "epoch %d\n", c.Epoch)
	}
	return text
}

// Signer signs and checks checkpoints with one ed25519 key.
type Signer struct {
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

// LoadSigner reads the PEM file of an ed25519 seed. If the file does not exist
// and create is set, it makes one, mode 0600.
func LoadSigner(path string, create bool) (*Signer, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		return createSigner(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || len(block.Bytes) != ed25519.SeedSize {
		return nil, fmt.Errorf("the signing key %s is not a PEM block of %d bytes", path, ed25519.SeedSize)
	}
	return newSigner(block.Bytes), nil
}

func newSigner(seed []byte) *Signer {
	private := ed25519.NewKeyFromSeed(seed)
	return &Signer{private, private.Public().(ed25519.PublicKey)}
}

func createSigner(path string) (*Signer, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "EIDER SIGNING KEY", Bytes: seed})
	var files disk.FS // writes it whole or not at all: half a key would keep every later start from going on
	if err := files.WriteFile(path, block, 0o600); err != nil {
		return nil, fmt.Errorf("write the signing key: %w", err)
	}
	return newSigner(seed), nil
}

// KeyID names the public key.
func (s *Signer) KeyID() string {
	sum := sha256.Sum256(s.public)
	return hex.EncodeToString(sum[:8])
}

// Sign returns the checkpoint of a head.
func (s *Signer) Sign(h Head) Checkpoint {
	c := Checkpoint{ID: h.ID, Hash: hex.EncodeToString(h.Hash), Time: h.Time, Epoch: h.Epoch, Key: s.KeyID()}
	c.Signature = hex.EncodeToString(ed25519.Sign(s.private, c.message()))
	return c
}

// Valid reports whether this key signed the checkpoint.
func (s *Signer) Valid(c Checkpoint) bool {
	signature, err := hex.DecodeString(c.Signature)
	return err == nil && ed25519.Verify(s.public, c.message(), signature)
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
