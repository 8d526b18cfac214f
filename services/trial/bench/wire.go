package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// answerTimeout is far beyond any answer: a server that hangs fails the run.
const answerTimeout = 10 * time.Second

// conn is one HTTP/1.1 connection that sends requests as bytes and reads answers
// one at a time. A whole HTTP client would take more CPU than what it asks.
type conn struct {
	net.Conn
	r              *bufio.Reader
	body           []byte
	setCookie      string // the guest ticket that the last answer set
	ends           bool   // the answer just read was its last
	sent, received int64  // bytes
}

func dial(ctx context.Context, addr string) (*conn, error) {
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, r: bufio.NewReaderSize(c, 16<<10)}, nil
}

// do sends one request and returns the body of the answer, which is good until
// the next call. Every answer but 200 is an error.
func (c *conn) do(request []byte) ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, err
	}
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	c.sent += int64(len(request))
	return c.read()
}

func (c *conn) read() ([]byte, error) {
	line, err := c.line()
	if err != nil {
		return nil, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return nil, fmt.Errorf("the answer begins with %q", line)
	}
	status := string(line[9:12])
	length := -1
	for {
		if line, err = c.line(); err != nil {
			return nil, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return nil, fmt.Errorf("Content-Length: %w", err)
			}
		case bytes.EqualFold(name, []byte("Connection")):
			c.ends = bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, []byte("Set-Cookie")):
			cookie, err := http.ParseSetCookie(string(value))
			if err == nil && cookie.Name == "guest" {
				c.setCookie = cookie.Value
			}
		}
	}
	if length < 0 {
		return nil, errors.New("an answer without Content-Length")
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	if _, err := io.ReadFull(c.r, c.body); err != nil {
		return nil, err
	}
	c.received += int64(length)
	if status != "200" {
		return nil, fmt.Errorf("the answer is %s: %.300s", status, c.body)
	}
	return c.body, nil
}

// line is the next line of an answer's head, without its end.
func (c *conn) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	c.received += int64(len(line))
	return bytes.TrimRight(line, "\r\n"), nil
}
