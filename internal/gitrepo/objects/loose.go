package objects

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

func (s *Store) loosePath(id ID) string {
	name := id.String()
	return filepath.Join(s.dir, name[:2], name[2:])
}

func (s *Store) readLoose(id ID) (object, error) {
	f, err := os.Open(s.loosePath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return object{}, ErrNotFound
	} else if err != nil {
		return object{}, fmt.Errorf("read it: %w", err)
	}
	defer f.Close()
	z, err := zlib.NewReader(bufio.NewReader(f))
	if err != nil {
		return object{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	r := bufio.NewReader(z)
	head, err := r.ReadString(0)
	if err != nil || len(head) > 32 {
		return object{}, fmt.Errorf("%w: no header", ErrCorrupt)
	}
	name, digits, _ := bytes.Cut([]byte(head[:len(head)-1]), []byte{' '})
	kind, ok := parseKind(string(name))
	size, err := strconv.ParseUint(string(digits), 10, 62)
	if !ok || err != nil {
		return object{}, fmt.Errorf("%w: header %q", ErrCorrupt, head)
	}
	if int64(size) > s.limit {
		return object{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size, s.limit)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return object{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return object{kind, data}, nil
}

// CheckLoose reads every loose object, and returns the error of the first that is damaged.
func (s *Store) CheckLoose() error {
	files, err := filepath.Glob(filepath.Join(s.dir, "[0-9a-f][0-9a-f]", "*"))
	for _, f := range files {
		id, wrong := ParseID(filepath.Base(filepath.Dir(f)) + filepath.Base(f))
		if wrong != nil {
			continue // left by a write that was killed
		}
		if _, _, wrong = s.Get(id); errors.Is(wrong, ErrCorrupt) {
			return wrong
		}
	}
	return err
}

// Write adds objects, loose. Each appears whole or not at all. No object is synced to the disk: a power loss may damage
// it, and Get reports that.
func (s *Store) Write(list []NewObject) error {
	z := zlib.NewWriter(nil)
	for _, o := range list {
		path := s.loosePath(o.ID)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := writeLoose(z, path, o); err != nil {
			return fmt.Errorf("write object %v: %w", o.ID, err)
		}
	}
	return nil
}

func writeLoose(z *zlib.Writer, path string, o NewObject) error {
	var b bytes.Buffer
	z.Reset(&b)
	_, err1 := z.Write(objectHeader(nil, o.Kind, len(o.Data)))
	_, err2 := z.Write(o.Data)
	if err := errors.Join(err1, err2, z.Close()); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // as git makes it: the umask decides
		return err
	}
	f, err := os.CreateTemp(dir, "tmp_obj_*")
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	err = errors.Join(err, f.Chmod(0o444), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
