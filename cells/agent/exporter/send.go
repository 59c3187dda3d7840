package exporter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/releases"
)

const (
	sendTimeout   = time.Minute
	maxAnswer     = 16 << 10 // bytes
	maxRetryAfter = time.Hour
	maxDiffering  = 3 // answers in a row that name another position, before the agent waits
)

// outcome is what came of sending a file.
type outcome struct {
	file    File
	sent    cells.ExportReceipt // what the receipt says if the batch was taken
	receipt cells.ExportReceipt
	status  int           // of an answer that is no receipt; 0: there was none
	after   time.Duration // Retry-After
	err     error         // nil: receipt says what the control plane has
}

func (e *Exporter) startSending(ctx context.Context, file File) {
	body, sent, err := e.prepare(file)
	if err != nil {
		e.finish(outcome{file: file, status: statusOf(err), err: err}, time.Now())
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	e.mu.Lock()
	e.cut = cancel
	forbidden := e.purge || e.invalid || e.consent == nil || e.consent.Off
	e.mu.Unlock()
	if forbidden { // since upkeep looked
		cancel()
		return
	}
	done := make(chan outcome, 1)
	e.inFlight = done
	go func() {
		defer cancel()
		o := outcome{file: file, sent: sent}
		o.receipt, o.status, o.after, o.err = e.post(ctx, body)
		done <- o
	}()
}

// damagedError says that a file that waits can't be read any more.
type damagedError struct{ cause error }

func (d *damagedError) Error() string { return "the file on disk is damaged: " + d.cause.Error() }

func statusOf(err error) int {
	if _, ok := errors.AsType[*damagedError](err); ok {
		return http.StatusUnprocessableEntity
	}
	return 0
}

// prepare returns what is sent of a file, and what the receipt says if it is taken. The header is durable before the
// first try.
func (e *Exporter) prepare(file File) (body []byte, sent cells.ExportReceipt, err error) {
	if exists(e.dir.path(file.Name + goneEnding)) {
		return nil, sent, fs.ErrNotExist
	}
	packed, err := disk.ReadLimited(e.dir.nameOf(file), maxFile)
	if err != nil {
		return nil, sent, err
	}
	if o := e.position.Offered; o == nil || o.File != file.Name {
		text, err := decompress(packed)
		if err != nil {
			return nil, sent, &damagedError{err}
		}
		header, err := json.Marshal(cells.ExportHeader{Cell: e.options.Cell, Sequence: e.position.Sequence + 1,
			Previous: e.position.Hash, At: file.At, Content: string(releases.DigestBytes(text)), Gap: e.position.Gap})
		if err != nil {
			return nil, sent, err
		}
		next := e.position
		next.Offered = &offered{file.Name, header}
		if err := e.dir.savePosition(next); err != nil {
			return nil, sent, err
		}
		e.position = next
	}
	header := e.position.Offered.Header
	first, err := compress(append(slices.Clone(header), '\n'))
	if err != nil {
		return nil, sent, err
	}
	return append(first, packed...), cells.ExportReceipt{Sequence: e.position.Sequence + 1,
		Hash: string(releases.DigestBytes(header))}, nil
}

func (e *Exporter) post(ctx context.Context, body []byte) (r cells.ExportReceipt, status int, after time.Duration,
	err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control-plane/v1/exports",
		bytes.NewReader(body))
	if err != nil {
		return r, 0, 0, err
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	request.Header.Set("Content-Encoding", "zstd")
	response, err := e.options.To.RoundTrip(request)
	if err != nil {
		return r, 0, 0, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if response.StatusCode == http.StatusOK {
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		return r, 0, 0, err
	}
	var problem struct{ Detail string }
	_ = json.Unmarshal(text, &problem) // the status is enough
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		after = min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	return r, response.StatusCode, after, fmt.Errorf("the control plane answered %s: %.300s", response.Status,
		problem.Detail)
}

// finish takes note of what came of a file.
func (e *Exporter) finish(o outcome, now time.Time) {
	e.retryAt = time.Time{}
	switch {
	case o.err == nil:
		e.acknowledge(o, now)
	case errors.Is(o.err, fs.ErrNotExist), errors.Is(o.err, context.Canceled):
		// the owner removed the file, or forbade it, meanwhile
	case o.status == http.StatusBadRequest, o.status == http.StatusRequestEntityTooLarge,
		o.status == http.StatusUnprocessableEntity:
		e.warn(o.err, "a file of the exports was refused for good, and is missing in what leaves")
		e.widen(o.file.At, "the control plane refused it")
		if err := e.dir.forget(o.file); err != nil {
			e.retryAt = now.Add(e.pause(0))
		}
	case o.status == http.StatusNotFound, o.status == http.StatusMethodNotAllowed:
		e.warn(o.err, "the control plane takes no exports; the agent keeps them for some time")
		e.retryAt = now.Add(noRoutePause)
	default:
		e.warn(o.err, "exports can't be sent; the agent tries again")
		e.retryAt = now.Add(e.pause(o.after))
	}
}

// acknowledge goes on from where the control plane is.
func (e *Exporter) acknowledge(o outcome, now time.Time) {
	next := position{Sequence: o.receipt.Sequence, Hash: o.receipt.Hash, Gap: e.position.Gap}
	taken := o.receipt == o.sent
	if !taken {
		if o.receipt.Sequence != o.sent.Sequence { // more than a lost answer
			next.widen(o.file.At, "the control plane and the cell counted differently")
		}
		if e.differed++; e.differed >= maxDiffering {
			e.retryAt = now.Add(e.pause(0))
		}
	} else {
		e.failures, e.differed, e.warned = 0, 0, ""
		var header cells.ExportHeader
		if told := json.Unmarshal(e.position.Offered.Header, &header) == nil; told && header.Gap != nil &&
			next.Gap != nil && sameGap(*header.Gap, *next.Gap) { // one that grew meanwhile is still to be told
			next.Gap = nil
		}
	}
	if err := e.dir.savePosition(next); err != nil { // the control plane says again what it has
		e.warn(err, "it can't be kept how far the exports are; the agent tries again")
		e.retryAt = now.Add(e.pause(0))
		return
	}
	e.position = next
	if taken {
		if err := e.dir.forget(o.file); err != nil {
			e.warn(err, "a file of the exports that was sent can't be removed")
			e.retryAt = now.Add(e.pause(0))
		}
	}
}

func sameGap(a, b cells.ExportGap) bool {
	return a.From.Equal(b.From) && a.To.Equal(b.To) && a.Why == b.Why
}
