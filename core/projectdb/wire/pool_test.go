package wire

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
)

// What a buffer held before is never part of another frame.
func TestFramesHoldWhatWasSentInMemoryThatIsUsedAgain(t *testing.T) {
	codec := Codec{Pool: &Pool{}}
	for round, length := range []int{frameSize - 1, 10, partSize, 300, 1 << 20, partSize + 1, 0, frameSize} {
		body := bytes.Repeat([]byte{byte('a' + round)}, length)
		sent, err := codec.Marshal(codec.Data(body))
		if err != nil {
			t.Fatal(err)
		}
		var parts mem.BufferSlice // as gRPC cuts it
		for rest := sent.Materialize(); len(rest) > 0; {
			n := min(len(rest), partSize)
			parts = append(parts, mem.Copy(rest[:n], codec.Pool))
			rest = rest[n:]
		}
		var f Frame
		if err := codec.Unmarshal(parts, &f); err != nil {
			t.Fatal(err)
		}
		if f.Kind != KindData || !bytes.Equal(f.Body, body) {
			t.Errorf("a frame of %d bytes came as %d", length, len(f.Body))
		}
		f.Free()
		parts.Free()
		sent.Free()
	}
}

func TestLargeFramesAreNotKept(t *testing.T) {
	var p Pool
	b := p.Get(frameSize + 1)
	p.Put(b)
	if c := p.Get(frameSize + 1); c == b {
		t.Error("it was given again")
	}
}
