package objects

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1" //nolint:gosec // the pack format's own checksum
	"encoding/binary"
)

// EncodePack makes a pack of new objects. Large objects with a Base are sent as deltas against it, so the receiver must
// have the Base: a thin pack.
func EncodePack(list []NewObject) []byte {
	var b bytes.Buffer
	b.WriteString("PACK")
	b.Write(binary.BigEndian.AppendUint32(nil, 2))
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(list)))) //nolint:gosec // a promotion has a few objects
	z, _ := zlib.NewWriterLevel(&b, zlib.BestSpeed)                // the level is valid, so there is no error
	for _, o := range list {
		kind, data := o.Kind, o.Data
		if len(data) > 512 && o.Base != nil {
			if d := makeDelta(o.Base, data); len(d) < len(data)/2 {
				kind, data = refDelta, d
			}
		}
		c, rest := byte(kind)<<4|byte(len(data)&15), len(data)>>4
		for ; rest > 0; rest >>= 7 {
			b.WriteByte(c | 0x80)
			c = byte(rest & 0x7f)
		}
		b.WriteByte(c)
		if kind == refDelta {
			b.Write(o.BaseID[:])
		}
		z.Reset(&b)
		_, _ = z.Write(data) // a bytes.Buffer returns no errors
		_ = z.Close()
	}
	trailer := sha1.Sum(b.Bytes()) //nolint:gosec // see above
	b.Write(trailer[:])
	return b.Bytes()
}
