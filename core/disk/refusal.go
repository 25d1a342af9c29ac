package disk

import (
	"errors"
	"syscall"

	"github.com/eiderdb/eider"
)

// Refusal gives an error of a file system the code by which a caller is told:
// the disk is full, or it cannot be written. Any other error stays as it is.
func Refusal(err error) error {
	var errno syscall.Errno
	var refusal *eider.Error
	switch {
	case errors.As(err, &refusal) || !errors.As(err, &errno):
		return err
	case IsFull(err):
		return eider.Errorf(eider.StorageFull, "the disk is full").Because(err)
	}
	return eider.Errorf(eider.StorageUnavailable, "the disk cannot be written").Because(err)
}
