package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// client is one connection that sends one request after another. The clients
// share the processors with the server, so they do no more than they must: a
// request costs them a fifth of what it costs net/http's client.
type client struct {
	conn    net.Conn
	reader  *bufio.Reader
	request []byte
	body    []byte // of the last answer
}

const answerTimeout = time.Minute

func dial(address string) (*client, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return newClient(conn), nil
}

func newClient(conn net.Conn) *client {
	return &client{conn: conn, reader: bufio.NewReaderSize(conn, 64<<10)}
}

func (c *client) close() { _ = c.conn.Close() }

// do sends a request and returns the answer's status; body holds its body.
// extra are whole header lines.
func (c *client) do(method, path, key, body string, extra ...string) (int, error) {
	q := fmt.Appendf(c.request[:0], "%s %s HTTP/1.1\r\nHost: bench\r\n", method, path)
	if key != "" {
		q = append(append(append(q, "Authorization: Bearer "...), key...), "\r\n"...)
	}
	if body != "" {
		q = fmt.Appendf(q, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	for _, line := range extra {
		q = append(append(q, line...), "\r\n"...)
	}
	c.request = append(append(q, "\r\n"...), body...)
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return 0, err
	}
	status, err := c.answer()
	if err != nil {
		return status, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return status, nil
}

func (c *client) answer() (status int, err error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, fmt.Errorf("not an answer: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, fmt.Errorf("not a status: %q", line)
	}
	length, err := c.headers()
	if err != nil {
		return status, err
	}
	c.body = append(c.body[:0], make([]byte, length)...)
	_, err = io.ReadFull(c.reader, c.body)
	return status, err
}

// headers reads them and returns the length of the body.
func (c *client) headers() (int, error) {
	length := -1
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if strings.EqualFold(string(name), "content-length") {
			if length, err = strconv.Atoi(textproto.TrimString(string(value))); err != nil {
				return 0, err
			}
		}
	}
	if length < 0 {
		return 0, fmt.Errorf("an answer without Content-Length")
	}
	return length, nil
}

// want is do for an answer that must have the status.
func (c *client) want(status int, method, path, key, body string, extra ...string) error {
	got, err := c.do(method, path, key, body, extra...)
	if err == nil && got != status {
		err = fmt.Errorf("%s %s answered %d, not %d: %.300s", method, path, got, status, c.body)
	}
	return err
}
