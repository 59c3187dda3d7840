package flagserver

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/releases"
)

// A bundle on disk is removed only if its content is another: not if the machine does not let it be read, nor if it is
// of a version that this agent does not know.
func TestBundlesThatCantBeUsed(t *testing.T) {
	unknown, damaged := []byte(`{"version":99}`), []byte("{")
	for name, c := range map[string]struct {
		place func(file string) error
		stays bool
	}{
		"the machine does not read it": {func(file string) error { return os.Symlink("/proc/self/mem", file) }, true},
		"of another version":           {func(file string) error { return os.WriteFile(file, unknown, 0o600) }, true},
		"damaged":                      {func(file string) error { return os.WriteFile(file, damaged, 0o600) }, false},
	} {
		dir, d := t.TempDir(), releases.DigestBytes(unknown)
		file := filepath.Join(dir, "flags", d.Hex()+".json")
		must(t, os.MkdirAll(filepath.Dir(file), 0o700))
		must(t, c.place(file))
		record := flagsRecord{Height: 1, Bundle: cells.FlagBundle{Digest: d}, LastGood: d}
		must(t, record.save(dir))
		_, err := New(Options{StateDir: dir, Clock: clock.New(dir, clock.Machine{}), Log: zerolog.Nop(),
			OnReport: func() {}, OnTestPoint: func(string) {}})
		must(t, err)
		if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) == c.stays {
			t.Errorf("%s: %v", name, err)
		}
	}
}
