package cellapi

import (
	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// maxInlineBundle is up to how many bytes a compressed bundle goes with the answer that names it. A cell that fetches
// it opens a connection, which costs both sides more than these bytes.
const maxInlineBundle = 16 << 10

// inlineBundle adds the bytes of d's bundle, unless it is large, or the one that the cell was told of before.
func (snap *snapshot) inlineBundle(d *cells.Desired, before releases.Digest) {
	if d.Flags == nil || d.Flags.Bundle.Digest == before {
		return
	}
	key := sharedKey{kind: "packed bundle", digest: d.Flags.Bundle.Digest}
	packed := snap.shared.find(&key)
	if packed == nil {
		packed = packBundle(snap.view.Flags.Bundles[key.digest], key.digest)
		snap.shared.keep(key, packed)
	}
	d.Flags.Bundle.Content = packed
}

// packBundle compresses a bundle. It returns no bytes if these are too many, or do not match the digest (invariant 5).
func packBundle(raw []byte, digest releases.Digest) []byte {
	none := []byte{}
	if len(raw) == 0 || len(raw) > cells.MaxBundleContent || releases.DigestBytes(raw) != digest {
		return none
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return none
	}
	defer encoder.Close() //nolint:errcheck // it writes nowhere
	packed := encoder.EncodeAll(raw, nil)
	if len(packed) > maxInlineBundle {
		return none
	}
	return packed
}

// toldBundle returns the bundle in a cell's answer; empty: none.
func (snap *snapshot) toldBundle(cell string) releases.Digest {
	if snap.view == nil || snap.view.Flags == nil || snap.view.Flags.ByCell[cell] == nil {
		return ""
	}
	return snap.view.Flags.ByCell[cell].Bundle.Digest
}
