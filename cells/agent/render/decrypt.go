package render

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/sops"
)

const maxKeyFile = 64 << 10 // bytes

// readKeys reads the age keys that the cell decrypts with: again for each render, so that a new key needs no new
// process. A file that is not there holds none.
func (r *Renderer) readKeys() (string, error) {
	if r.keyFile == "" {
		return "", nil
	}
	f, err := os.Open(r.keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", &cells.UnavailableError{Cause: fmt.Errorf("read the age keys: %w", err)}
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s is larger than %d bytes", r.keyFile, maxKeyFile)
	}
	if err != nil {
		return "", &cells.UnavailableError{Cause: fmt.Errorf("read the age keys: %w", err)}
	}
	return string(text), nil
}

// decryptFiles replaces the files that SOPS encrypted by what they hold. text has the age keys; empty: there are none.
func decryptFiles(files releases.Files, text string) error {
	var keys sops.Keys
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		if !sops.IsEncrypted(f.Data) {
			continue
		}
		if keys == nil && text != "" {
			var err error
			if keys, err = sops.ParseKeys([]byte(text)); err != nil {
				return &releases.OwnerValuesError{Reason: fmt.Sprintf("--age-key: %v", err)}
			}
		}
		plain, err := sops.Decrypt(name, f.Data, keys)
		if _, missing := errors.AsType[*sops.NoKeyError](err); missing {
			return &releases.OwnerValuesError{Reason: fmt.Sprintf("a key for %s, in the file of --age-key: %v", name, err)}
		}
		if err != nil {
			return fmt.Errorf("%s: decrypt by SOPS: %w", name, err)
		}
		files[name] = releases.File{Data: plain, Mode: f.Mode}
	}
	return nil
}
