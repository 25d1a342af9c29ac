package blob

import (
	"bytes"
	"crypto/md5"
	"io"
	"testing"
	"testing/iotest"

	"github.com/eiderdb/eider/core/disk"
)

// An upload is to be about as fast as MD5 alone.
func BenchmarkUpload(b *testing.B) {
	p := content(64 << 20)
	for name, reader := range map[string]func(io.Reader) io.Reader{
		"whole reads": func(r io.Reader) io.Reader { return r },
		"half reads":  iotest.HalfReader,
		"small reads": func(r io.Reader) io.Reader { return short{r} },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			l := NewLocal(b.TempDir(), &disk.FS{})
			for b.Loop() {
				u, err := l.Resume(key)
				if err == nil {
					err = u.Append(b.Context(), reader(bytes.NewReader(p)), 1<<40, free)
				}
				if err == nil {
					err = u.Finish()
				}
				if err == nil {
					err = u.Close()
				}
				if err == nil {
					err = l.Remove(key)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("MD5 alone", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			_ = md5.Sum(p)
		}
	})
}

// short reads as a connection does: never much at a time.
type short struct{ r io.Reader }

func (s short) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), 8<<10)]) }
