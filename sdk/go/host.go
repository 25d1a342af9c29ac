package plugin

import (
	"encoding/binary"
	"errors"
)

// What a host function may answer instead of what it was asked for.
var (
	ErrNotFound   = errors.New("not found")
	ErrNotGranted = errors.New("the operator did not grant it")
	ErrMalformed  = errors.New("malformed")
	ErrLimit      = errors.New("a limit is reached")
	ErrFailed     = errors.New("failed, and may be tried again")
)

func errorOf(code int32) error {
	switch {
	case code >= 0:
		return nil
	case code == -1:
		return ErrNotFound
	case code == -2:
		return ErrNotGranted
	case code == -3:
		return ErrMalformed
	case code == -4:
		return ErrLimit
	}
	return ErrFailed
}

// Level is how much a line of the log matters.
type Level int32

// The levels.
const (
	Debug Level = iota
	Info
	Warning
	Error
)

// Log writes a line into the server's log, if `log` is granted. Lines over 2,048
// bytes are cut, and too many in a second are counted instead.
func Log(level Level, text string) {
	//lint:ignore SA4017 outside of a server it does nothing
	callLog(int32(level), text)
}

// Now returns the milliseconds since 1970, if `clock` is granted. A policy takes
// the event's time instead, so that a replay decides as it did.
func Now() (int64, error) {
	ms := callClock()
	if ms < 0 {
		return 0, errorOf(int32(ms))
	}
	return ms, nil
}

// read calls a host function that answers with bytes until they fit.
func read(limit int, call func(buf []byte) int32) ([]byte, error) {
	for range 4 {
		buf := make([]byte, limit)
		n := call(buf)
		if err := errorOf(n); err != nil {
			return nil, err
		}
		if int(n) <= len(buf) {
			return buf[:n], nil
		}
		limit = int(n) // another guest may have made it longer since: once more
	}
	return nil, ErrFailed
}

// KVGet returns the value of a key, or ErrNotFound. Keys belong to the operator's
// item and are seen by all its guests at once.
func KVGet(key string) ([]byte, error) {
	return read(256, func(buf []byte) int32 { return callGet(key, buf) })
}

// KVSet sets the value of a key, for so many milliseconds, or for good if that is 0.
func KVSet(key string, value []byte, ttlMS int64) error {
	return errorOf(callSet(key, string(value), ttlMS))
}

// KVDelete removes a key, if it is there.
func KVDelete(key string) error { return errorOf(callDelete(key)) }

// KVAdd adds to the number of a key in one step, and returns the sum. A number
// begins at 0; the time to live is that of its first add.
func KVAdd(key string, delta, ttlMS int64) (int64, error) {
	sum, code := callAdd(key, delta, ttlMS)
	return sum, errorOf(code)
}

// KVSwap sets the value of a key if it is the old one, in one step, and reports
// whether it did. An old of nil means that there must be none.
func KVSwap(key string, old, value []byte, ttlMS int64) (bool, error) {
	var expected *string
	if old != nil {
		s := string(old)
		expected = &s
	}
	code := callSwap(key, expected, string(value), ttlMS)
	return code == 1, errorOf(code)
}

// ReadProject returns {"project": {..}, "usage": {..}} of a project, or ErrNotFound,
// if `metadata.read` is granted.
func ReadProject(id string) (JSON, error) {
	return readMetadata(`{"get":"project","id":` + string(Quote(id)) + `}`)
}

// ReadServer returns {"usage": {..}} of the server, if `metadata.read` is granted.
func ReadServer() (JSON, error) { return readMetadata(`{"get":"server"}`) }

func readMetadata(question string) (JSON, error) {
	answer, err := read(2048, func(buf []byte) int32 { return callMetadata(question, buf) })
	return JSON(answer), err
}

// HTTPRequest is sent by HTTP.
type HTTPRequest struct {
	Method, URL string
	Headers     [][2]string
	Body        []byte
	TimeoutMS   int // 0: as long as the server allows
}

// HTTPResponse is what came back.
type HTTPResponse struct {
	Status  int
	Headers [][2]string
	Body    []byte
}

// HTTP sends a request to a host that manifest and operator both name, if `http`
// is granted. An answer with any status is an answer.
func HTTP(r HTTPRequest) (*HTTPResponse, error) {
	message := appendStr([]byte{1}, r.Method)
	message = appendStr(message, r.URL)
	message = binary.LittleEndian.AppendUint32(message, uint32(r.TimeoutMS))
	message = appendHeaders(message, r.Headers)
	message = appendStr(message, string(r.Body))
	answer, err := read(4096, func(buf []byte) int32 {
		n := callHTTP(message, buf)
		message = nil // an answer that did not fit is read again, not sent again
		return n
	})
	if err != nil {
		return nil, err
	}
	return readResponse(answer)
}

func appendHeaders(to []byte, headers [][2]string) []byte {
	to = binary.LittleEndian.AppendUint32(to, uint32(len(headers)))
	for _, h := range headers {
		to = appendStr(appendStr(to, h[0]), h[1])
	}
	return to
}

func readResponse(answer []byte) (*HTTPResponse, error) {
	r := &reader{rest: string(answer)}
	if r.u8() != 1 {
		return nil, ErrMalformed
	}
	response := &HTTPResponse{Status: int(r.u32())}
	for n := r.u32(); n > 0 && !r.bad; n-- {
		response.Headers = append(response.Headers, [2]string{r.str(), r.str()})
	}
	response.Body = []byte(r.str())
	if r.bad {
		return nil, ErrMalformed
	}
	return response, nil
}
