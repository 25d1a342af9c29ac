package gate

import (
	"errors"
	"fmt"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

// refuse says what is not allowed, and why.
func refuse(format string, args ...any) *eider.Error {
	return eider.Errorf(eider.StatementNotAllowed, format, args...)
}

// refuseAt is refuse with the place, where that is known: at is the offset in
// bytes, below 0 if it is unknown.
func refuseAt(at int, format string, args ...any) *eider.Error {
	return refuse("%s%s", fmt.Sprintf(format, args...), place(at))
}

// failed says what in a statement is no SQL.
func failed(at int, format string, args ...any) *eider.Error {
	return eider.Errorf(eider.QueryFailed, "%s%s", fmt.Sprintf(format, args...), place(at))
}

// place counts from 1, in bytes, as editors and PostgreSQL do.
func place(at int) string {
	if at < 0 {
		return ""
	}
	return fmt.Sprintf(" (at character %d)", at+1)
}

// recode gives a refusal the code of the field it is about.
func recode(err error, code eider.Code) error {
	e := refusal(err)
	if e == nil {
		return err
	}
	c := *e
	c.Code = code
	return &c
}

// refusal returns what of an error the caller may read, nil if nothing.
func refusal(err error) *eider.Error {
	var e *eider.Error
	errors.As(err, &e)
	return e
}

// failure says in DuckDB's words what it has against a text that the gate has
// passed. An instance that has died, a statement that was interrupted and memory
// that is short are no fault of the text: the caller has words for those.
func failure(err error) error {
	complaint, ok := duck.Complains(err)
	if !ok || complaint.Kind == duck.ComplaintMemory {
		return err
	}
	return told(-1, complaint).Because(err)
}

// clip keeps a message short, whatever was sent.
func clip(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
