// Package timestamper signs, with the engine's key, what has to be fresh: TUF's timestamp and snapshot, which say that
// the signers' files and the channels' heads are the newest. It signs them again every hour, and as soon as one of the
// files changes.
//
// The leader signs; a record in the store has what was signed last, which all replicas serve. So versions never go back
// from replica to replica. The database may be lost: a version's number is the time. The package writes nothing to git
// and decides nothing about releases. Current may be called from any goroutine; Run is called once.
package timestamper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/view"
)

// Kind is the kind of the one record that this package keeps.
const Kind = "timestamps"

const (
	recordKey  = "newest"
	renewAfter = time.Hour
	lookEvery  = time.Minute
)

// Engine is what says which files there are: an engine.Engine.
type Engine interface {
	View() *view.View
	Changed() <-chan struct{}
	Leads() bool
	Now() time.Time
}

// Options of a Timestamper. All fields are required.
type Options struct {
	Engine  Engine
	Records records.Store
	Written <-chan struct{} // receives when another process wrote the record
	Signer  trust.Signer    // with the engine's key
	Log     zerolog.Logger
}

// Timestamper signs what has to be fresh.
type Timestamper struct {
	o       Options
	current atomic.Pointer[trust.Published] // nil: nothing is signed

	// The fields below belong to Run's goroutine.
	seen   *plan.Desired // that current was made of; nil: none
	warned bool          // that the engine's key may not sign
}

// New returns a Timestamper and starts nothing.
func New(o Options) *Timestamper { return &Timestamper{o: o} }

// Current returns the files that are signed and belong together; nil: there are none, or not yet.
func (t *Timestamper) Current() *trust.Published { return t.current.Load() }

// Run signs until ctx ends.
func (t *Timestamper) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		changed := t.o.Engine.Changed() // before View, so that no change is missed
		if err := t.Refresh(ctx); err != nil && ctx.Err() == nil {
			t.o.Log.Warn().Err(err).Msg("the signed releases' timestamp is not renewed; cells take nothing new once it expires")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-t.o.Written:
			t.seen = nil
		case <-tick.C:
		}
	}
}

// Refresh signs if that is due. It must not be called while Run runs.
func (t *Timestamper) Refresh(ctx context.Context) error {
	v := t.o.Engine.View()
	if v == nil || v.Desired == nil {
		return nil
	}
	d, now := v.Desired, t.o.Engine.Now()
	if d.Trust == nil || d.Trust.Targets == nil || d.Trust.Releases == nil {
		t.current.Store(nil)
		t.seen = d
		return nil
	}
	if is := t.Current(); d == t.seen && is != nil && now.Sub(is.Served.Signed) < renewAfter &&
		!now.Before(is.Served.Signed) { // else the clock was ahead
		return nil
	}
	if !d.Trust.MayTimestamp(t.o.Signer) {
		if !t.warned {
			t.o.Log.Warn().Msg("the engine's key is not the one that the signers' root names, so cells that verify releases " +
				"take nothing new: sluice trust rotate --engine")
		}
		t.warned = true
		t.current.Store(nil)
		return nil
	}
	t.warned = false
	served, version, err := t.read(ctx)
	if err != nil {
		return err
	}
	content := d.Trust.Content(d.SignedHeads, t.o.Signer)
	if t.o.Engine.Leads() && (served == nil || served.Content != content || now.Sub(served.Signed) >= renewAfter ||
		now.Before(served.Signed)) {
		if served, err = t.sign(ctx, d, served, version, now); err != nil {
			return err
		}
	}
	if served == nil || served.Content != content {
		return nil // of other files than this process has read: those that it has signed belong together
	}
	t.current.Store(&trust.Published{Ledger: d.Trust, Heads: d.SignedHeads, Served: served})
	t.seen = d
	return nil
}

// read returns what was signed last, with the record's version; nil: nothing was.
func (t *Timestamper) read(ctx context.Context) (*trust.Served, int64, error) {
	r, err := t.o.Records.Get(ctx, Kind, recordKey)
	if errors.Is(err, records.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the timestamp that was signed last: %w", err)
	}
	served, err := unpack(r.Body)
	if err != nil { // of another version: it is signed anew
		return nil, r.Version, nil //nolint:nilerr // see above
	}
	return served, r.Version, nil
}

// packed is what is stored: a snapshot of some hundred channels is larger than a record.
type packed struct {
	Zstd []byte `json:"zstd"` // of the files as JSON
}

// files are what is packed: as texts, for base64 would compress badly.
type files struct {
	Version   int64
	Signed    time.Time
	Content   string
	Snapshot  string
	Timestamp string
}

const maxUnpacked = 4 << 20 // bytes

func pack(s *trust.Served) ([]byte, error) {
	data, err := json.Marshal(files{s.Version, s.Signed, s.Content, string(s.Snapshot), string(s.Timestamp)})
	if err != nil {
		return nil, err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer encoder.Close() //nolint:errcheck // it writes nowhere
	return json.Marshal(packed{encoder.EncodeAll(data, nil)})
}

func unpack(body []byte) (*trust.Served, error) {
	var p packed
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	data, err := decoder.DecodeAll(p.Zstd, nil)
	if err != nil {
		return nil, err
	}
	var f files
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	return &trust.Served{Version: f.Version, Signed: f.Signed, Content: f.Content, Snapshot: []byte(f.Snapshot),
		Timestamp: []byte(f.Timestamp)}, nil
}

func (t *Timestamper) sign(
	ctx context.Context, d *plan.Desired, before *trust.Served, version int64, now time.Time,
) (*trust.Served, error) {
	served, err := d.Trust.SignServed(d.SignedHeads, before, now, t.o.Signer)
	if err != nil {
		return nil, err
	}
	body, err := pack(served)
	if err != nil {
		return nil, err
	}
	_, err = t.o.Records.Put(ctx, records.Record{Kind: Kind, Key: recordKey, Version: version, Body: body})
	if errors.Is(err, records.ErrConflict) {
		return before, nil // another replica was quicker, and its write brings us back
	}
	if err != nil {
		return nil, fmt.Errorf("keep the signed timestamp: %w", err)
	}
	return served, nil
}
