package metadata

import "time"

// NullTime returns t as a column value: nil for the zero time.
func NullTime(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// OrZero returns the time of a column value that may be NULL, in UTC.
func OrZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
