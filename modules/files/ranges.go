package files

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"github.com/eiderdb/eider"
)

// span is a part of a file, both ends included.
type span struct{ first, last int64 }

func (s span) length() int64 { return s.last - s.first + 1 }

func (s span) header(size int64) string { return fmt.Sprintf("bytes %d-%d/%d", s.first, s.last, size) }

// maxRanges is how many ranges a request may ask for. RFC 9110 section 14.2 lets
// a server ignore more, as it does with those that overlap much: each costs a
// header, and many of one byte cost more than the file.
const maxRanges = 32

// parseRange returns the spans of a Range header that lie in a file of the size.
// It returns none where the header is to be ignored: it is malformed, in another
// unit, or asks for too many. A range that lies wholly behind the end is left
// out; if all do, the range is not satisfiable.
func parseRange(header string, size int64) ([]span, error) {
	unit, list, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(unit, "bytes") || strings.Count(list, ",") >= maxRanges {
		return nil, nil
	}
	var spans []span
	asked := 0
	for _, one := range strings.Split(list, ",") {
		one = strings.TrimSpace(one)
		if one == "" {
			continue
		}
		s, ok := parseSpan(one, size)
		if !ok {
			return nil, nil
		}
		asked++
		if s.first < size && s.first <= s.last {
			spans = append(spans, s)
		}
	}
	if asked == 0 {
		return nil, nil
	}
	if len(spans) == 0 {
		e := eider.Errorf(eider.RangeNotSatisfiable, "the file has %d bytes", size)
		e.Headers = map[string]string{"Content-Range": fmt.Sprintf("bytes */%d", size)}
		return nil, e
	}
	return joined(spans), nil
}

// parseSpan reads first-last, first- or -length.
func parseSpan(text string, size int64) (span, bool) {
	from, to, ok := strings.Cut(text, "-")
	if !ok {
		return span{}, false
	}
	if from == "" {
		n, ok := position(to)
		return span{max(0, size-n), size - 1}, ok
	}
	first, ok := position(from)
	if !ok {
		return span{}, false
	}
	if to == "" {
		return span{first, size - 1}, true
	}
	last, ok := position(to)
	if !ok || last < first {
		return span{}, false
	}
	return span{first, min(last, size-1)}, true
}

// position reads digits. More than any file has bytes are as good as the most.
func position(text string) (int64, bool) {
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c < '0' || c > '9' }) {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return math.MaxInt64, true
	}
	return n, true
}

// joined makes one of spans that overlap or touch, so that no byte is sent
// twice. Others stay in the order in which they were asked for.
func joined(spans []span) []span {
	sorted := append([]span(nil), spans...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].first < sorted[j].first })
	merged := sorted[:1]
	for _, s := range sorted[1:] {
		if last := &merged[len(merged)-1]; s.first <= last.last+1 {
			last.last = max(last.last, s.last)
		} else {
			merged = append(merged, s)
		}
	}
	if len(merged) == len(spans) {
		return spans
	}
	return merged
}
