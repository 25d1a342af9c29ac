package web

import (
	"bufio"
	"context"
	"net"
	"time"

	"github.com/eiderdb/eider"
	"github.com/valyala/fasthttp"
)

const (
	// maxRefusing is how many surplus connections are answered at a time; more are
	// closed without a word.
	maxRefusing = 64
	// refuseWithin is the time to answer one, a handshake of TLS included.
	refuseWithin = time.Second
	// spareWorkers are for connections that have closed and whose workers have not
	// ended yet. Without them fasthttp would refuse connections before we do, in
	// plain text.
	spareWorkers = 256
	// comeBack is when a refused client should try again.
	comeBack = time.Second
)

// bounded is a listener that refuses connections beyond http.max_connections, each
// listener for itself.
type bounded struct {
	net.Listener // own, with TLS where it is on
	own          *listener
	max          int
	refuse       func(net.Conn)
	refusing     chan struct{}
}

func (s *Server) bounded(own *listener, serving net.Listener) net.Listener {
	return &bounded{serving, own, s.config.MaxConnections, s.surplus, make(chan struct{}, maxRefusing)}
}

// Accept returns the next connection that can be served.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil || b.own.hasRoom(c, b.max) {
			return c, err
		}
		select {
		case b.refusing <- struct{}{}:
			go func() {
				b.refuse(c)
				<-b.refusing
			}()
		default:
			_ = c.Close()
		}
	}
}

// surplus answers a connection whose request is not read.
func (s *Server) surplus(c net.Conn) {
	id := requestID("")
	ctx := &fasthttp.RequestCtx{}
	full := eider.Errorf(eider.TooManyConnections, "the server has as many connections as it can serve")
	full.RetryAfter = comeBack
	status := refuse(ctx, full, "", id)
	ctx.Response.Header.Set(headerRequestID, id)
	ctx.Response.Header.SetServer("eider")
	secure(&ctx.Response.Header)
	ctx.Response.SetConnectionClose()
	lingering(c)
	w := bufio.NewWriter(c)
	err := c.SetReadDeadline(time.Now().Add(refuseWithin))
	if err == nil {
		err = ctx.Response.Write(w)
	}
	if err == nil {
		err = w.Flush()
	}
	_ = c.Close()
	s.metrics.count(context.Background(), ended{methodName(""), unmatched, status}, 0)
	s.log.Debug("connection refused: there are too many", "request_id", id, "error", err)
}
