package sessionapi

import (
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
	"github.com/sluice-cd/sluice/engine/records"
)

const (
	maxReceived = 4                // records that are received at once
	stallLimit  = 20 * time.Second // without a byte of a record
	maxWindow   = 8 << 20          // bytes of zstd's window
)

// errSeal means that a record is not what its seal says.
var errSeal = errors.New("the record is not the one that its seal names")

// serveSeal answers POST /v1/debug/{id}/record, after the seal and the record are durable.
func (a *API) serveSeal(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	id := r.PathValue("id")
	switch kept, err := a.requests.IsKept(r.Context(), c.Cell, id); {
	case err != nil:
		api.WriteError(w, err)
		return
	case !kept:
		writeUnknown(w)
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
	case err == nil && seal.Length > debug.MaxRecord:
		err = errors.New("the record is too large")
	}
	if err != nil {
		api.WriteProblem(w, http.StatusBadRequest, "The seal is invalid, and nothing was stored: "+err.Error()+".")
		return
	}
	if seal.Withheld {
		a.finish(w, a.requests.Sealed(r.Context(), c.Cell, id, signed, false))
		return
	}
	if r.Header.Get("Content-Encoding") != "zstd" {
		api.WriteProblem(w, http.StatusUnsupportedMediaType, "Send the record with Content-Encoding: zstd.")
		return
	}
	if !a.reading.Acquire() {
		api.SetRetryAfter(w, 5)
		api.WriteProblem(w, http.StatusServiceUnavailable, "Many records arrive at once: send it again in a moment.")
		return
	}
	defer a.reading.Release()
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
	api.SetWriteTimeout(w, api.ResponseTimeout+5*time.Minute) // a large record has many parts
	if _, err = spool.Seek(0, io.SeekStart); err == nil {
		err = a.records.Put(r.Context(), c.Cell, id, seal.Hash, spool, time.Now())
	}
	if err == nil {
		err = a.requests.Sealed(r.Context(), c.Cell, id, signed, true)
	}
	a.finish(w, err)
}

func (a *API) finish(w http.ResponseWriter, err error) {
	if err != nil {
		api.WriteError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
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
	body := io.TeeReader(&patientReader{w, http.MaxBytesReader(w, r.Body, debug.MaxPacked)}, into)
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

// patientReader reads a body for as long as something comes.
type patientReader struct {
	w    http.ResponseWriter
	from io.Reader
}

func (p *patientReader) Read(b []byte) (int, error) {
	now := time.Now()
	control := http.NewResponseController(p.w)
	_ = control.SetReadDeadline(now.Add(stallLimit)) // a ResponseWriter without deadlines is a test's
	_ = control.SetWriteDeadline(now.Add(stallLimit + api.ResponseTimeout))
	return p.from.Read(b)
}

// serveRecord answers GET /v1/cells/{name}/debug/{id}/record.
func (a *API) serveRecord(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	cell, id := r.PathValue("name"), r.PathValue("id")
	if !a.find(w, r, cell) {
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
