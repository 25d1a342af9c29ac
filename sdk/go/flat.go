package plugin

import (
	"encoding/binary"
	"errors"
)

var errShort = errors.New("the message ends too early")

// reader takes fields from the front of a message. Its strings are parts of one
// copy, so they outlive the buffer that the host writes into.
type reader struct {
	rest string
	bad  bool
}

func (r *reader) take(n int) string {
	if n < 0 || n > len(r.rest) {
		r.bad, r.rest = true, ""
		return ""
	}
	got := r.rest[:n]
	r.rest = r.rest[n:]
	return got
}

func (r *reader) u8() byte {
	if b := r.take(1); b != "" {
		return b[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	b := r.take(4)
	if b == "" {
		return 0
	}
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func (r *reader) i64() int64 {
	low := r.u32()
	return int64(low) | int64(r.u32())<<32
}

func (r *reader) str() string { return r.take(int(r.u32())) }

func (r *reader) amounts() Amounts {
	return Amounts{Projects: r.i64(), Bytes: r.i64(), Files: r.i64(), Tables: r.i64(), Rows: r.i64()}
}

// readEvent reads an event. Bytes behind what it knows are of a later version.
func readEvent(message []byte) (*Event, error) {
	r := &reader{rest: string(message)}
	if r.u8() != 1 {
		return nil, errors.New("an event of an unknown layout")
	}
	e := &Event{Operation: r.str(), TimeMS: r.i64()}
	e.Actor = Actor{Type: r.str(), ID: r.str(), Name: r.str(), Role: r.str(), ProjectID: r.str()}
	e.Resource = Resource{Type: r.str(), ID: r.str()}
	if r.u8() == 1 {
		e.Project = &Project{ID: r.str(), UID: r.str(), Name: r.str(), Status: r.str(), Settings: JSON(r.str())}
	}
	e.Usage = Usage{Project: r.amounts(), Server: r.amounts(), Adds: r.amounts()}
	e.Request = Request{ID: r.str(), SourceIP: r.str(), Method: r.str(), Route: r.str()}
	e.Input = JSON(r.str())
	e.Extends = r.rest != "" && r.u8() == 1 // servers of ABI 1.0 do not say
	if r.bad {
		return nil, errShort
	}
	return e, nil
}

func readBatch(message []byte) (*Batch, error) {
	r := &reader{rest: string(message)}
	if r.u8() != 1 {
		return nil, errors.New("a batch of an unknown layout")
	}
	b := &Batch{Sink: r.str(), Epoch: r.i64(), FirstID: r.i64(), LastID: r.i64(), Attempt: int(r.u32())}
	for n := r.u32(); n > 0 && !r.bad; n-- {
		b.Rows = append(b.Rows, Row{
			ID: r.i64(), TimestampUS: r.i64(), CallID: r.str(), Operation: r.str(), Status: r.str(), ErrorCode: r.str(),
			Actor:     Actor{Type: r.str(), ID: r.str(), Name: r.str()},
			ProjectID: r.str(), Resource: Resource{Type: r.str(), ID: r.str()}, JSON: JSON(r.str()),
		})
	}
	if r.bad {
		return nil, errShort
	}
	if r.rest != "" { // a server of before has none
		b.Checkpoint = JSON(r.str())
	}
	if r.bad {
		return nil, errShort
	}
	return b, nil
}

func appendStr(to []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(to, uint32(len(s))), s...)
}

func (d Decision) append(to []byte) []byte {
	to = append(to, 1, d.verdict, d.code)
	to = binary.LittleEndian.AppendUint64(to, uint64(d.retryAfterMS))
	return appendStr(to, d.reason)
}

func (r Receipt) append(to []byte) []byte {
	status := byte(0)
	if r.retry {
		status = 1
	}
	to = append(to, 1, status)
	to = binary.LittleEndian.AppendUint64(to, uint64(r.retryAfterMS))
	return appendStr(to, r.reason)
}
