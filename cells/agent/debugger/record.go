package debugger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/upgrade"
	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/internal/backoff"
)

const (
	sendTimeout  = 10 * time.Minute
	minSendPause = time.Second
	maxSendPause = 5 * time.Minute
)

// seal signs how a session ended, and keeps that. It reports whether it could; an error is logged:
// the session has been, all the same.
func (d *Debugger) seal(e debugfolder.Entry, end ending) bool {
	s, err := debug.NewSignedSeal(debug.Seal{Cell: d.options.Cell, Request: e.ID, Began: end.began, Ended: end.ended,
		Why: end.why, Length: end.length, Hash: end.hash, Withheld: isWithheld(&e)}, d.options.Identity())
	if err == nil {
		err = d.folder.End(e.ID, s)
	}
	if err != nil {
		d.options.Log.Error().Err(err).Str("request", e.ID).Msg("the record of a debug session is not sealed yet")
	}
	return err == nil
}

// isWithheld reports whether a record stays in the cell: also if the owner removed the permission.
func isWithheld(e *debugfolder.Entry) bool { return e.Permission == nil || e.Permission.Withhold }

// closeInterrupted seals the records of sessions in which an earlier agent ended, and ends what they left running. Such
// a session does not go on: its permission is used (D3).
func (d *Debugger) closeInterrupted() {
	entries, err := d.folder.List()
	if err != nil {
		d.options.Log.Warn().Err(err).Msg("requests for debug access can't be read")
	}
	for _, e := range entries {
		if e.Begun == nil || e.Seal != nil || d.options.Identity() == nil {
			continue
		}
		group := process.OpenCgroup("sluice-debug-" + e.ID)
		(&programs{id: e.ID}).sweep(group)
		group.Close()
		if p := e.Permission; p != nil && p.Pod != nil && d.options.PodShells != nil {
			go endInPod(d.options.PodShells, *p.Pod, e.ID, d.options.Log)
		}
		end := ending{why: "the agent was interrupted in the session", began: e.Begun.At, ended: time.Now()}
		end.hash, end.length, err = d.folder.HashRecord(e.ID)
		if err != nil {
			d.options.Log.Error().Err(err).Str("request", e.ID).Msg("the record of a debug session can't be read")
		}
		d.keepChanges(e.ID, e.Permission, end.ended)
		d.seal(e, end)
	}
}

// send sends a seal, and the record unless the owner withholds it, until the control plane has both.
func (d *Debugger) send(ctx context.Context, e debugfolder.Entry) {
	defer d.leave(e.ID)
	sealAlone := isWithheld(&e)
	for failures := 0; ; failures++ {
		err := d.sendOnce(ctx, e, sealAlone)
		if err == nil {
			return
		}
		var r *upgrade.Refusal
		if errors.As(err, &r) && r.Status == http.StatusRequestEntityTooLarge && !sealAlone {
			sealAlone = true
			continue
		}
		if errors.As(err, &r) && r.Status/100 == 4 && r.Status != http.StatusTooManyRequests &&
			r.Status != http.StatusUnauthorized {
			d.options.Log.Error().Err(err).Str("request", e.ID).Msg("the control plane does not take the session's record")
			return // the next start of the agent tries again
		}
		d.options.Log.Info().Err(err).Str("request", e.ID).Msg("the session's record is sent again later")
		if backoff.Sleep(ctx, backoff.FullJitter(backoff.Exponential(minSendPause, maxSendPause, failures))) != nil {
			return
		}
	}
}

// sendOnce sends a seal, with the record unless it is withheld, too large, or gone.
func (d *Debugger) sendOnce(ctx context.Context, e debugfolder.Entry, sealAlone bool) error {
	seal, err := upgrade.Encode(e.Seal)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	body := io.Reader(http.NoBody)
	if !sealAlone {
		f, err := os.Open(d.folder.RecordPath(e.ID))
		switch {
		case err == nil:
			defer func() { _ = f.Close() }()
			packed := packRecord(f)
			defer func() { _ = packed.Close() }()
			body = packed
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("read the session's record: %w", err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, controlPlane+debug.RecordPath(e.ID), body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", debug.RecordType)
	r.Header.Set("Content-Encoding", "zstd")
	r.Header.Set(debug.SealHeader, seal)
	answer, err := d.options.Transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode/100 != 2 {
		return upgrade.NewRefusal(answer)
	}
	return d.folder.MarkSent(e.ID)
}

func newPacker(to io.Writer) (*zstd.Encoder, error) {
	return zstd.NewWriter(to, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
}

// packRecord compresses a record while it is read.
func packRecord(record io.Reader) io.ReadCloser {
	from, to := io.Pipe()
	go func() {
		packer, err := newPacker(to)
		if err == nil {
			_, err = io.Copy(packer, record)
			err = errors.Join(err, packer.Close())
		}
		_ = to.CloseWithError(err) // nil: the end
	}()
	return from
}
