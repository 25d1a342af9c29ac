package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// SendSetup tells a worker what to open, and hands it the lock.
func SendSetup(conn *net.UnixConn, s Setup, lock *os.File) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	message := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	message = append(message, text...)
	_, _, err = conn.WriteMsgUnix(message, syscall.UnixRights(int(lock.Fd())), nil)
	if err != nil {
		return fmt.Errorf("send the setup: %w", err)
	}
	return nil
}

// maxSetup bounds the setup and its answer, in bytes.
const maxSetup = 64 << 10

// SendOpened tells the server whether the project is open; refusal is nil if it
// is. gRPC starts behind it.
func SendOpened(conn net.Conn, refusal *Error) error {
	text, err := json.Marshal(Opened{refusal})
	if err != nil {
		return err
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)); err != nil {
		return fmt.Errorf("send whether the project is open: %w", err)
	}
	return nil
}

// ReceiveOpened waits for a worker's word that the project is open, or why it is
// not, and reads no byte beyond.
func ReceiveOpened(conn net.Conn) (o Opened, err error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(conn, head); err != nil {
		return o, err
	}
	return o, readText(conn, head, &o)
}

func readText(conn io.Reader, head []byte, into any) error {
	length := binary.BigEndian.Uint32(head)
	if length > maxSetup {
		return errors.New("the message is too long")
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(conn, text); err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// ReceiveSetup waits for what the server has to tell. io.EOF says that the server
// does not need this worker.
func ReceiveSetup(conn *net.UnixConn) (s Setup, lock *os.File, err error) {
	head := make([]byte, 4)
	control := make([]byte, syscall.CmsgSpace(4))
	n, oobn, _, _, err := conn.ReadMsgUnix(head, control)
	if err != nil {
		return s, nil, err
	}
	if n == 0 {
		return s, nil, io.EOF
	}
	if lock, err = fileIn(control[:oobn]); err != nil {
		return s, nil, err
	}
	if _, err := io.ReadFull(conn, head[n:]); err != nil {
		return s, lock, err
	}
	return s, lock, readText(conn, head, &s)
}

func fileIn(control []byte) (*os.File, error) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return nil, errors.New("the setup came without a lock")
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("the setup came without a lock")
	}
	syscall.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "lock"), nil
}
