package sessionapi

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/upgrade"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/debugging"
	"github.com/sluice-cd/sluice/engine/debugrecords"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	maxReceived = 8                // records that are received at once, one of a cell
	stallLimit  = 20 * time.Second // without a byte of a record
	maxArrival  = 10 * time.Minute // of a whole record
	maxStoring  = 5 * time.Minute  // of a record that has arrived: a large one has many parts
	maxWindow   = 8 << 20          // bytes of zstd's window
)

// errSeal means that a record is not what its seal says.
var errSeal = errors.New("the record is not the one that its seal names")

// serveSeal answers POST /v1/debug/{id}/record, after the seal and the record are durable. The seal comes first: it is
// kept also if its record never arrives, and after it no other is taken.
func (a *API) serveSeal(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	id := r.PathValue("id")
	if !a.throttle.AllowSession(w, c.Cell) {
		return
	}
	asked, err := a.requests.Load(r.Context(), c.Cell, id)
	if err != nil {
		writeUnknown(w, err)
		return
	}
	signed, err := upgrade.Decode[debug.SignedSeal](r.Header.Get(debug.SealHeader))
	var seal debug.Seal
	if err == nil {
		seal, err = a.openSeal(signed, c)
	}
	switch {
	case err == nil && (seal.Cell != c.Cell || seal.Request != id):
		err = errors.New("it is of another session")
	case err == nil && (seal.Length > debug.MaxRecord || seal.Length < 0):
		err = errors.New("the record is too large")
	}
	if err != nil {
		api.WriteProblem(w, http.StatusBadRequest, "The seal is invalid, and nothing was stored: "+err.Error()+".")
		return
	}
	err = a.requests.Sealed(r.Context(), c.Cell, id, signed, false)
	if err != nil || seal.Withheld || asked.Stored || r.ContentLength == 0 {
		a.finish(w, err)
		return
	}
	if r.Header.Get("Content-Encoding") != "zstd" {
		api.WriteProblem(w, http.StatusUnsupportedMediaType, "Send the record with Content-Encoding: zstd.")
		return
	}
	if !a.begin(c.Cell) {
		api.SetRetryAfter(w, 5)
		api.WriteProblem(w, http.StatusServiceUnavailable, "Another record arrives: send it again in a moment.")
		return
	}
	defer a.end(c.Cell)
	if !a.throttle.AllowRecord(w, c.Cell) {
		return
	}
	a.serveUpload(w, r, c.Cell, id, signed, seal)
}

// begin counts an upload in, and reports whether it may be. No cell has two at once, and so none keeps others waiting.
func (a *API) begin(cell string) bool {
	if _, twice := a.from.LoadOrStore(cell, true); twice {
		return false
	}
	if !a.reading.Acquire() {
		a.from.Delete(cell)
		return false
	}
	return true
}

func (a *API) end(cell string) {
	a.from.Delete(cell)
	a.reading.Release()
}

// serveUpload receives a record, compares it with its seal, and keeps it.
func (a *API) serveUpload(
	w http.ResponseWriter, r *http.Request, cell, id string, signed debug.SignedSeal, seal debug.Seal,
) {
	spool, err := os.CreateTemp(a.dir, "sluice-record-*")
	if err != nil {
		api.WriteError(w, err)
		return
	}
	defer func() { _ = errors.Join(spool.Close(), os.Remove(spool.Name())) }() // nothing depends on it
	if err := receive(w, r, spool, seal); err != nil {
		status := http.StatusBadRequest
		if large := new(http.MaxBytesError); errors.As(err, &large) {
			status = http.StatusRequestEntityTooLarge
		}
		api.WriteProblem(w, status, "The record was not stored: "+err.Error()+".")
		return
	}
	api.SetWriteTimeout(w, api.ResponseTimeout+maxStoring)
	// A cell that goes away now has its record stored all the same, once, instead of many parts of it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), maxStoring)
	defer cancel()
	if _, err = spool.Seek(0, io.SeekStart); err == nil {
		err = a.records.Put(ctx, cell, id, seal.Hash, spool, time.Now())
	}
	if err == nil {
		err = a.requests.Sealed(ctx, cell, id, signed, true)
	}
	a.finish(w, err)
}

func (a *API) finish(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, debugging.ErrOtherSeal), errors.Is(err, debugrecords.ErrOther):
		api.WriteProblem(w, http.StatusConflict, "Another seal of this session is kept, and stays: nothing was stored.")
	default:
		api.WriteError(w, err)
	}
}

// openSeal opens a seal that the cell signed with its present key or the one before.
func (a *API) openSeal(s debug.SignedSeal, c *api.Caller) (debug.Seal, error) {
	err := errors.New("the cell has no key")
	for _, text := range a.auth.KeysOf(c) {
		var key ed25519.PublicKey
		if key, err = identity.ParseKey(text); err != nil {
			continue
		}
		var seal debug.Seal
		if seal, err = s.Open(key); err == nil {
			return seal, nil
		}
	}
	return debug.Seal{}, err
}

// receive writes the record that arrives into a file, and compares it with its seal.
func receive(w http.ResponseWriter, r *http.Request, into io.Writer, seal debug.Seal) error {
	patient := &patientReader{w, http.MaxBytesReader(w, r.Body, debug.MaxPacked), time.Now().Add(maxArrival)}
	body := io.TeeReader(patient, into)
	unpacker, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer unpacker.Close()
	hash, length, err := debug.HashRecord(io.LimitReader(unpacker, debug.MaxRecord+1))
	switch {
	case err != nil:
		return err
	case hash != seal.Hash || length != seal.Length:
		return errSeal
	}
	if rest, err := io.Copy(io.Discard, body); err != nil || rest > 0 {
		return fmt.Errorf("%d bytes follow the record (%w)", rest, errors.Join(err, errSeal))
	}
	return nil
}

// patientReader reads a body for as long as something comes, until an instant.
type patientReader struct {
	w     http.ResponseWriter
	from  io.Reader
	until time.Time
}

func (p *patientReader) Read(b []byte) (int, error) {
	now := time.Now()
	if now.After(p.until) { // also where the ResponseWriter has no deadlines, as a test's
		return 0, fmt.Errorf("it took more than %s to arrive", words.ExactDuration(maxArrival))
	}
	limit := now.Add(stallLimit)
	if limit.After(p.until) {
		limit = p.until
	}
	control := http.NewResponseController(p.w)
	_ = control.SetReadDeadline(limit)
	_ = control.SetWriteDeadline(limit.Add(api.ResponseTimeout))
	return p.from.Read(b)
}

// serveRecord answers GET /v1/cells/{name}/debug/{id}/record.
func (a *API) serveRecord(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	cell, id := r.PathValue("name"), r.PathValue("id")
	if _, err := a.requests.Load(r.Context(), cell, id); err != nil { // a withdrawn one's may be read, too
		writeUnknown(w, err)
		return
	}
	packed, err := a.records.Open(r.Context(), cell, id)
	switch {
	case errors.Is(err, records.ErrNotFound):
		api.WriteProblem(w, http.StatusNotFound,
			"No record is kept here: the session has not ended, the owner withholds the record, or it is too old.")
		return
	case err != nil:
		api.WriteError(w, err)
		return
	}
	if err := a.auth.Audit(r.Context(), c, "read the record of debug session "+id+" of cell "+cell); err != nil {
		api.WriteError(w, err)
		return
	}
	unpacker, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		api.WriteError(w, err)
		return
	}
	defer unpacker.Close()
	w.Header().Set("Content-Type", debug.RecordType)
	buffer := make([]byte, 64<<10)
	for {
		n, err := unpacker.Read(buffer)
		api.SetWriteTimeout(w, stallLimit)
		if _, written := w.Write(buffer[:n]); written != nil || errors.Is(err, io.EOF) {
			return
		}
		if err != nil { // the client must not take a part for the whole
			api.NoteError(w, err)
			panic(http.ErrAbortHandler)
		}
	}
}
