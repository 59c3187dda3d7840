package swarm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Event is an event of a stream (SSE, HTML Living Standard section 9.2), or a heartbeat: a comment, without data.
type Event struct {
	Name string // empty: message
	ID   string
	Data []byte
	// Retry is the pause before the next connection; zero: not specified.
	Retry time.Duration
}

const (
	// silenceTimeout is the silence after which a stream counts as broken: more than two missed heartbeats (R33).
	silenceTimeout = 40 * time.Second
	maxEventSize   = 1 << 20
)

// EventStream reads the events of a connection, which serves nothing else from then on.
type EventStream struct {
	conn     *Conn
	reader   *bufio.Reader
	longLine []byte // part of a line that exceeds the reader's buffer
}

// OpenStream asks for a stream. If the status is not 200 there is no stream, and the connection should be closed.
func (l *Conn) OpenStream(within time.Duration, path, header string) (ResponseHead, *EventStream, error) {
	_ = l.conn.SetDeadline(time.Now().Add(within))
	if err := l.writeRequest("GET", path, "Accept: text/event-stream\r\n"+header, nil); err != nil {
		return ResponseHead{}, nil, err
	}
	l.buffer = nil // frees memory: nothing else is sent
	a, err := l.readHead()
	if err != nil || a.Status != 200 {
		return a, nil, err
	}
	_ = l.conn.SetWriteDeadline(time.Time{})
	e := &EventStream{conn: l, reader: l.reader}
	if a.chunked {
		e.reader = bufio.NewReaderSize(l.bodyReader(a), 512)
	}
	return a, e, nil
}

// ReadEvent returns the next event or heartbeat. An error ends the stream.
func (e *EventStream) ReadEvent() (Event, error) {
	var event Event
	_ = e.conn.conn.SetReadDeadline(time.Now().Add(silenceTimeout))
	for {
		line, err := e.readLine()
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
			if len(event.Data) > maxEventSize {
				return event, fmt.Errorf("an event has more than %d bytes", maxEventSize)
			}
		}
	}
}

// readLine returns the next line, however long, without its end. The bytes are valid until the next read.
func (e *EventStream) readLine() ([]byte, error) {
	e.longLine = e.longLine[:0]
	for {
		part, err := e.reader.ReadSlice('\n')
		switch {
		case err == nil && len(e.longLine) == 0:
			return bytes.TrimRight(part, "\r\n"), nil
		case err == nil:
			line := bytes.TrimRight(append(e.longLine, part...), "\r\n")
			e.longLine = nil
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
		if e.longLine = append(e.longLine, part...); len(e.longLine) > maxEventSize {
			return nil, fmt.Errorf("a line has more than %d bytes", maxEventSize)
		}
	}
}
