package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// NoticeSecrets returns a reader of the files in dir that notices.yaml names. They are read each time, so that a secret
// can be replaced without a restart. Its errors are shown, and name no folder.
func NoticeSecrets(dir string) func(name string) (string, error) {
	return func(name string) (string, error) {
		if dir == "" {
			return "", errors.New("sluice serve has no --notice-secrets, the folder with its secret")
		}
		if !filepath.IsLocal(name) || filepath.Base(name) != name {
			return "", fmt.Errorf("%.70q can't name a file of --notice-secrets", name)
		}
		text, err := ReadSmallFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("the folder of --notice-secrets has no file %s", name)
		case err != nil:
			return "", fmt.Errorf("the file %s of --notice-secrets can't be read", name)
		}
		return string(text), nil
	}
}
