package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// generationSize is the number of results after which a Cache begins to forget: it keeps at least this many of the most
// recent results, and at most twice as many.
const generationSize = 1 << 16

// Cache keeps results by the object id of their source, so that unchanged blobs and trees are neither read nor parsed
// again. The zero value is ready; a nil *Cache keeps nothing. Safe for concurrent use. Its values are shared, and so
// immutable.
type Cache struct {
	mu          sync.Mutex
	young, aged map[cacheKey]any // a used result moves from aged to young
}

type cacheKey struct {
	typ      reflect.Type
	name, id string
}

// Cached returns the result of produce for this type, name and object id, calling produce unless the result is cached.
// An empty id is never cached. Two concurrent callers may both call produce; they get equal results.
func Cached[T any](c *Cache, name, id string, produce func() T) T {
	if c == nil || id == "" {
		return produce()
	}
	key := cacheKey{reflect.TypeFor[T](), name, id}
	if v, ok := c.get(key); ok {
		return v.(T)
	}
	v := produce()
	c.put(key, v)
	return v
}

// IsCached reports whether Cached would find a result for this type, name and object id.
func IsCached[T any](c *Cache, name, id string) bool {
	if c == nil || id == "" {
		return false
	}
	_, ok := c.get(cacheKey{reflect.TypeFor[T](), name, id})
	return ok
}

// Len returns the number of cached results.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.young) + len(c.aged)
}

func (c *Cache) get(key cacheKey) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.young[key]
	if ok {
		return v, true
	}
	if v, ok = c.aged[key]; ok {
		c.putLocked(key, v)
	}
	return v, ok
}

func (c *Cache) put(key cacheKey, v any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(key, v)
}

// putLocked requires that mu is held.
func (c *Cache) putLocked(key cacheKey, v any) {
	if c.young == nil || len(c.young) >= generationSize {
		c.aged, c.young = c.young, map[cacheKey]any{}
	}
	c.young[key] = v
}

// UnusedEntry returns the warning about an entry of a folder that is not read, and why: its name if no file may have
// it, else because. The path shows what can't be shown as it is in Go's quotes.
func UnusedEntry(dir string, e fs.DirEntry, because string) Fault {
	name := e.Name()
	if fs.ValidPath(name) && name != "." && !strings.Contains(name, `\`) {
		return Fault{File: path.Join(dir, name), Code: Unused, Warning: true, Message: "is not read: " + because}
	}
	if name = strconv.QuoteToGraphic(name); len(name) > maxShownName {
		name = strings.ToValidUTF8(name[:maxShownName], "") + "…"
	}
	return Fault{File: dir + "/" + name, Code: WrongName, Warning: true,
		Message: "is not read: no file may have this name; rename it, or remove it"}
}

const maxShownName = 200

// ID returns the object id of a file in a commit's fs.FS, or "" where there is none, as on disk.
func ID(info fs.FileInfo) string {
	id, _ := info.Sys().(string)
	return id
}

// loaded is a file's result in the cache.
type loaded[T any] struct {
	value  *T
	faults []Fault
}

// Load reads and checks a file. The value is nil if there are faults that are not warnings. If there is no such file,
// Load returns nil and no faults: only the caller knows whether the file is needed.
//
// check may be nil. Load calls it even if the document has faults, with what could be read, so that people see all
// faults at once; a fault of check on a line that has a fault already is dropped, since one most likely follows from
// the other. check may change the value (defaults, names, compiled forms) but must depend on the document alone: with a
// cache it is called once for each file and object id.
func Load[T any](c *Cache, fsys fs.FS, file string, check func(*Doc[T]) []Fault) (*T, []Fault) {
	info, err := fs.Stat(fsys, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []Fault{{File: file, Code: Unreadable, Message: fmt.Sprintf("can't be read: %v", err)}}
	}
	id := ID(info)
	key := cacheKey{reflect.TypeFor[loaded[T]](), file, id}
	if c != nil && id != "" {
		if v, ok := c.get(key); ok {
			l := v.(loaded[T])
			return l.value, slices.Clip(l.faults)
		}
	}
	data, fault := readFile(fsys, file, info)
	if fault != nil { // not remembered: the next try may succeed
		return nil, []Fault{*fault}
	}
	l := loadBytes(file, data, check)
	if c != nil && id != "" {
		c.put(key, l)
	}
	return l.value, slices.Clip(l.faults)
}

func loadBytes[T any](file string, data []byte, check func(*Doc[T]) []Fault) loaded[T] {
	doc, faults := Decode[T](file, data)
	if check != nil && doc.root != nil {
		lines := map[int]bool{}
		for _, f := range faults {
			lines[f.Line] = true
		}
		for _, f := range check(doc) {
			if f.File != file || !lines[f.Line] {
				faults = append(faults, f)
			}
		}
	}
	faults = Sort(faults)
	if Fatal(faults) {
		return loaded[T]{nil, faults}
	}
	return loaded[T]{&doc.Value, faults}
}

// Fatal reports whether any of the faults is more than a warning.
func Fatal(faults []Fault) bool {
	return slices.ContainsFunc(faults, func(f Fault) bool { return !f.Warning })
}

// LoadBytes is Load of a file in another format. parse turns the content into the value that a cache keeps, and must
// depend on the content alone. A fault means that the file could not be read; parse was not called then.
func LoadBytes[T any](c *Cache, fsys fs.FS, file string, parse func(data []byte) T) (v T, fault *Fault) {
	info, err := fs.Stat(fsys, file)
	if err != nil {
		return v, &Fault{File: file, Code: Unreadable, Message: fmt.Sprintf("can't be read: %v", err)}
	}
	key := cacheKey{reflect.TypeFor[T](), file, ID(info)}
	if c != nil && key.id != "" {
		if v, ok := c.get(key); ok {
			return v.(T), nil
		}
	}
	data, fault := readFile(fsys, file, info)
	if fault != nil { // not remembered: the next try may succeed
		return v, fault
	}
	v = parse(data)
	if c != nil && key.id != "" {
		c.put(key, v)
	}
	return v, nil
}

// readFile returns the content of a regular file of at most MaxFile bytes.
func readFile(fsys fs.FS, file string, info fs.FileInfo) ([]byte, *Fault) {
	fail := func(code FaultCode, format string, args ...any) ([]byte, *Fault) {
		return nil, &Fault{File: file, Code: code, Message: fmt.Sprintf(format, args...)}
	}
	if !info.Mode().IsRegular() {
		return fail(Unreadable, "is not a regular file")
	}
	if info.Size() > MaxFile {
		return fail(TooLarge, "is larger than %d bytes", MaxFile)
	}
	f, err := fsys.Open(file)
	if err != nil {
		return fail(Unreadable, "can't be read: %v", err)
	}
	defer f.Close()
	data := make([]byte, 0, info.Size()+1)
	in := bytes.NewBuffer(data)
	if _, err := in.ReadFrom(io.LimitReader(f, MaxFile+1)); err != nil {
		return fail(Unreadable, "can't be read: %v", err)
	}
	return in.Bytes(), nil // if the file grew beyond MaxFile, Decode refuses it
}
