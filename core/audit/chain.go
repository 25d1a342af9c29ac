package audit

import (
	"crypto/sha256"
	"encoding/binary"
)

// canonicalVersion is the first byte of every canonical row. A new form gets a
// new number, so that old rows stay verifiable.
const canonicalVersion = 1

// hash returns SHA-256(prev_hash || canonical row), where the canonical row is
// the version byte and every field as it is stored, each with its length before
// it: numbers as 8 bytes big-endian, the time as microseconds since 1970.
// Nanoseconds and the spacing of JSON do not survive the database, so what is
// hashed is what comes back from it.
func (r *Row) hash() []byte {
	b := make([]byte, 0, 512+len(r.Details))
	b = append(b, r.PrevHash...)
	b = append(b, canonicalVersion)
	number := func(n int64) {
		b = binary.BigEndian.AppendUint32(b, 8)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	text := func(s string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	number(r.ID)
	text(r.CallID)
	number(r.Time.UnixMicro())
	for _, s := range [...]string{
		r.RequestID, r.TraceID, string(r.ActorType), r.ActorID, r.ActorName, r.SourceIP,
		r.ProjectID, r.ProjectUID, r.Operation, r.ResourceType, r.ResourceID, r.Details,
	} {
		text(s)
	}
	number(r.Duration.Microseconds())
	for _, s := range [...]string{string(r.Status), r.Code, r.Error, r.Decision} {
		text(s)
	}
	number(r.IntentID)
	number(r.Count)
	sum := sha256.Sum256(b)
	return sum[:]
}

// genesis is the prev_hash of the first row.
func genesis() []byte { return make([]byte, sha256.Size) }
