package debugcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/upgrade"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/engine/debugging"
)

// fetchRecord writes a session's record into a new file. What is not the record that the cell sealed is not kept.
func fetchRecord(a *cli.App, cmd *cobra.Command, s debugging.RequestStatus, name string) error {
	switch {
	case s.Seal == nil:
		return cli.Fail(errors.New("there is no record yet"), "the cell sends it once the session has ended")
	case !s.Stored:
		return cli.Fail(errors.New("the control plane does not have the record"),
			"the cell's owner keeps it: ask for record.cast, and compare it by sluice debug verify")
	}
	seal, err := openSealOf(a, cmd, *s.Seal, s.Cell, s.ID)
	if err != nil {
		return err
	}
	body, err := openRecord(a, cmd, s)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the caller names it
	if err != nil {
		return err
	}
	err = copyRecord(file, body, seal)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

const (
	recordWait  = 2 * time.Minute // for a record that the cell sends
	recordEvery = time.Second     // between two looks for it
)

// saveRecord writes the record of a session that ended just now into a new file, once the cell has sent it.
func saveRecord(ctx context.Context, a *cli.App, cmd *cobra.Command, s debugging.RequestStatus, name string) error {
	waiting, cancel := context.WithTimeout(ctx, recordWait)
	defer cancel()
	for {
		now, err := loadRequest(waiting, a, s.Cell, s.ID)
		if err == nil && now.Seal != nil && (now.Stored || now.Withheld) {
			if err = fetchRecord(a, cmd, now, name); err == nil {
				a.Stderr.PrintLine("the session's record, as the cell sealed it: %s", name)
			}
			return err
		}
		select {
		case <-waiting.Done():
			return cli.Fail(fmt.Errorf("the control plane does not have the session's record yet, so %s was not written", name),
				"sluice debug show %s %s --record FILE writes it later", s.Cell, s.ID)
		case <-time.After(recordEvery):
		}
	}
}

// openRecord requests a record from the control plane.
func openRecord(a *cli.App, cmd *cobra.Command, s debugging.RequestStatus) (io.ReadCloser, error) {
	base, transport, header, err := client.UpgradeTransport(a)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, base+requestPath(s.Cell, s.ID)+"/record", nil)
	if err != nil {
		return nil, err
	}
	r.Header = header
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		defer func() { _ = answer.Body.Close() }()
		return nil, upgrade.NewRefusal(answer)
	}
	return answer.Body, nil
}

// copyRecord copies a record, which must be the one that was sealed.
func copyRecord(to io.Writer, record io.Reader, seal debug.Seal) error {
	hash, length, err := debug.HashRecord(io.TeeReader(io.LimitReader(record, seal.Length+1), to))
	if err != nil {
		return err
	}
	if hash != seal.Hash || length != seal.Length {
		return fmt.Errorf("what the control plane sent is not the record that cell %s sealed: it has the hash %s, and the "+
			"seal says %s", seal.Cell, hash, seal.Hash)
	}
	return nil
}
