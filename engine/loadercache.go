package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// loaderCache is what a Loader keeps on disk, so that a restart need not read what it has read before. It is a
// cache: anything wrong with it, and it counts as not there.
type loaderCache struct {
	Edition string // of the program that wrote it: another may fold history another way
	History *plan.History
	Cells   []*cells.Found
}

// maxCacheSize bounds what is read back.
const maxCacheSize = 256 << 20

// readCacheFile reads what an earlier process kept.
func (l *Loader) readCacheFile() {
	l.history = plan.NewHistory()
	if l.Keep == "" {
		return
	}
	info, err := os.Stat(l.Keep)
	if err != nil || info.Size() < sha256.Size || info.Size() > maxCacheSize {
		return
	}
	data, err := os.ReadFile(l.Keep)
	if err != nil {
		return
	}
	sum, body := data[:sha256.Size], data[sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return
	}
	var k loaderCache
	registerGobTypes()
	if err := gob.NewDecoder(bytes.NewReader(body)).Decode(&k); err != nil || k.Edition != programEdition() || k.History == nil {
		return
	}
	l.history = k.History.Ready()
	l.cacheFileCurrent = true
	for _, f := range k.Cells {
		for i := range f.Cell.Windows {
			f.Cell.Windows[i].Ready() // a file that is kept has no faults, or its faults
		}
		manifest.Cached(&l.cache, f.Cell.Name, f.Tree, func() *cells.Found { return f })
	}
}

// writeCacheFile writes down what was read, once enough is new. What can't be written costs the next process a slower
// start, and nothing else: it is no error.
func (l *Loader) writeCacheFile(d *plan.Desired, folded int) {
	const worthIt = 256 // commits
	l.uncachedCommits += folded
	if l.Keep == "" || l.uncachedCommits < worthIt && l.cacheFileCurrent {
		return
	}
	l.uncachedCommits, l.cacheFileCurrent = 0, true
	k := loaderCache{Edition: programEdition(), History: l.history, Cells: make([]*cells.Found, 0, len(d.Cells))}
	for _, cell := range d.Cells {
		if cell.Found != nil && cell.Found.Tree != "" {
			k.Cells = append(k.Cells, cell.Found)
		}
	}
	var body bytes.Buffer
	registerGobTypes()
	if err := gob.NewEncoder(&body).Encode(k); err != nil {
		return
	}
	sum := sha256.Sum256(body.Bytes())
	_ = replaceFile(l.Keep, append(sum[:], body.Bytes()...))
}

// registerGobTypes names what cells' values are made of: gob asks for it, once or often.
func registerGobTypes() {
	gob.Register([]any{})
	gob.Register(map[string]any{})
}

// programEdition tells programs apart: a path, a size and a time are enough for a cache.
func programEdition() string {
	file, err := os.Executable()
	if err != nil {
		return ""
	}
	info, err := os.Stat(file)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %d", file, info.Size(), info.ModTime().UnixNano())
}

// replaceFile writes a file whole or not at all. It may be lost in a power cut, which costs nothing here.
func replaceFile(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	if closing := temp.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
	}
	return err
}
