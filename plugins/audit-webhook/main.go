// Command audit-webhook is a sink: it posts the log as batches of CloudEvents, signed
// with HMAC-SHA256.
//
// A batch is acknowledged when the receiver answers 2xx. Everything else, and no
// answer, brings it again: rows may come twice, and are told apart by the id of
// their event, but none is left out.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	plugin "github.com/eiderdb/eider/sdk/go"
)

var _ = plugin.Sink(configure)

func main() {}

type webhook struct {
	url, source string
	secret      []byte
	headers     [][2]string
	timeoutMS   int
}

func configure(c plugin.JSON) (func(*plugin.Batch) plugin.Receipt, error) {
	w := &webhook{url: c.Get("url").String(), source: c.Get("source").String(), secret: []byte(c.Get("secret").String())}
	if w.url == "" {
		return nil, errors.New("url is empty")
	}
	if w.source == "" {
		w.source = "eider"
	}
	timeout, _ := c.Get("timeout_ms").Int()
	w.timeoutMS = int(timeout)
	c.Get("headers").Each(func(name string, value plugin.JSON) bool {
		w.headers = append(w.headers, [2]string{name, value.String()})
		return true
	})
	return w.deliver, nil
}

func (w *webhook) deliver(b *plugin.Batch) plugin.Receipt {
	body := w.body(b)
	answer, err := plugin.HTTP(plugin.HTTPRequest{
		Method: "POST", URL: w.url, Headers: w.headed(b, body), Body: body, TimeoutMS: w.timeoutMS,
	})
	switch {
	case err != nil:
		return plugin.Retry("no answer: "+err.Error(), 0)
	case answer.Status >= 200 && answer.Status < 300:
		return plugin.OK()
	}
	return plugin.Retry("the receiver answered "+strconv.Itoa(answer.Status), retryAfter(answer))
}

// headed returns the headers of a request. What is signed is the time, a dot, and
// the body, so that a receiver can refuse an old request that is sent again.
func (w *webhook) headed(b *plugin.Batch, body []byte) [][2]string {
	now, err := plugin.Now()
	if err != nil { // clock is not granted
		now = b.Rows[len(b.Rows)-1].TimestampUS / 1000
	}
	at := strconv.FormatInt(now/1000, 10)
	headers := append([][2]string{
		{"Content-Type", "application/cloudevents-batch+json; charset=utf-8"},
		{"Eider-Batch", strconv.FormatInt(b.Epoch, 10) + "/" + strconv.FormatInt(b.FirstID, 10) + "-" + strconv.FormatInt(b.LastID, 10)},
		{"Eider-Attempt", strconv.Itoa(b.Attempt)},
		{"Eider-Timestamp", at},
	}, w.headers...)
	if len(w.secret) > 0 {
		mac := hmac.New(sha256.New, w.secret)
		mac.Write([]byte(at + "."))
		mac.Write(body)
		headers = append(headers, [2]string{"Eider-Signature", "sha256=" + hex.EncodeToString(mac.Sum(nil))})
	}
	return headers
}

// body writes the rows as CloudEvents 1.0. A row is JSON already and becomes the
// data of its event as it is.
func (w *webhook) body(b *plugin.Batch) []byte {
	size := 2
	for i := range b.Rows {
		size += len(b.Rows[i].JSON) + 300
	}
	body := append(make([]byte, 0, size), '[')
	source := string(plugin.Quote(w.source))
	for i := range b.Rows {
		r := &b.Rows[i]
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"specversion":"1.0","id":"`...)
		body = strconv.AppendInt(body, b.Epoch, 10)
		body = append(body, '-')
		body = strconv.AppendInt(body, r.ID, 10)
		body = append(append(body, `","source":`...), source...)
		body = append(append(body, `,"type":`...), plugin.Quote("eider.operation."+r.Operation+"."+r.Status)...)
		if r.Resource.Type != "" {
			body = append(append(body, `,"subject":`...), plugin.Quote(r.Resource.Type+"/"+r.Resource.ID)...)
		}
		body = append(body, `,"time":"`...)
		body = time.UnixMicro(r.TimestampUS).UTC().AppendFormat(body, "2006-01-02T15:04:05.000000Z")
		body = append(body, `","datacontenttype":"application/json","data":`...)
		body = append(append(body, r.JSON...), '}')
	}
	if b.Checkpoint.Get("hash").String() != "" {
		body = append(append(body, checkpoint(b, source)...), '}')
	}
	return append(body, ']')
}

// checkpoint writes all of the event behind the rows but its end: whoever keeps it
// can prove later what the log was.
func checkpoint(b *plugin.Batch, source string) []byte {
	body := append([]byte(`,{"specversion":"1.0","id":"`), strconv.FormatInt(b.Epoch, 10)+"-checkpoint-"+strconv.FormatInt(b.LastID, 10)...)
	body = append(append(body, `","source":`...), source...)
	body = append(append(body, `,"type":"eider.checkpoint","time":`...), plugin.Quote(b.Checkpoint.Get("time").String())...)
	return append(append(body, `,"datacontenttype":"application/json","data":`...), b.Checkpoint...)
}

// retryAfter returns the milliseconds of Retry-After in seconds, 0 if there is none.
func retryAfter(answer *plugin.HTTPResponse) int64 {
	for _, h := range answer.Headers {
		if h[0] == "Retry-After" || h[0] == "retry-after" {
			seconds, _ := strconv.ParseInt(h[1], 10, 32)
			return max(0, seconds) * 1000
		}
	}
	return 0
}
