package swarm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Event is one of a stream (SSE, HTML Living Standard section 9.2), or a heartbeat: a comment, without data.
type Event struct {
	Name string // empty: message
	ID   string
	Data []byte
	// Retry is when to come back once the stream has ended; zero: nothing was said of it.
	Retry time.Duration
}

const (
	// quietFor is after how much silence a stream counts as broken: two heartbeats missed (R33), and some.
	quietFor = 40 * time.Second
	maxEvent = 1 << 20
)

// Events is a stream of events on a connection, which serves nothing else from then on.
type Events struct {
	link  *Link
	lines *bufio.Reader
	long  []byte // of a line that does not fit into the reader
}

// Stream asks for a stream. Where the answer is not 200 there is none, and the connection should be closed.
func (l *Link) Stream(within time.Duration, path, header string) (Answer, *Events, error) {
	_ = l.conn.SetDeadline(time.Now().Add(within))
	if err := l.send("GET", path, "Accept: text/event-stream\r\n"+header, nil); err != nil {
		return Answer{}, nil, err
	}
	l.out = nil // memory: nothing else is sent
	a, err := l.answer()
	if err != nil || a.Status != 200 {
		return a, nil, err
	}
	_ = l.conn.SetWriteDeadline(time.Time{})
	e := &Events{link: l, lines: l.in}
	if a.chunked {
		e.lines = bufio.NewReaderSize(l.body(a), 512)
	}
	return a, e, nil
}

// Next gives the next event or heartbeat. An error ends the stream.
func (e *Events) Next() (Event, error) {
	var event Event
	_ = e.link.conn.SetReadDeadline(time.Now().Add(quietFor))
	for {
		line, err := e.line()
		if err != nil {
			return event, err
		}
		if len(line) == 0 {
			if event.Data != nil {
				return event, nil
			}
			if event.Retry > 0 {
				return event, nil
			}
			event = Event{} // the end of a heartbeat, or of a field without data
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "": // a comment
			return Event{}, nil
		case "event":
			event.Name = string(value)
		case "retry":
			if n, err := strconv.Atoi(string(value)); err == nil {
				event.Retry = min(time.Duration(n)*time.Millisecond, time.Hour)
			}
		case "id":
			event.ID = string(value)
		case "data":
			if event.Data != nil {
				event.Data = append(event.Data, '\n')
			}
			event.Data = append(event.Data, value...)
			if len(event.Data) > maxEvent {
				return event, fmt.Errorf("an event has more than %d bytes", maxEvent)
			}
		}
	}
}

// line gives the next line, however long, without its end; it is good until the next read.
func (e *Events) line() ([]byte, error) {
	e.long = e.long[:0]
	for {
		part, err := e.lines.ReadSlice('\n')
		switch {
		case err == nil && len(e.long) == 0:
			return bytes.TrimRight(part, "\r\n"), nil
		case err == nil:
			line := bytes.TrimRight(append(e.long, part...), "\r\n")
			e.long = nil
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
		if e.long = append(e.long, part...); len(e.long) > maxEvent {
			return nil, fmt.Errorf("a line has more than %d bytes", maxEvent)
		}
	}
}
