package datadir

import (
	"bytes"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"

	"physalia/cell"
)

// superblock is what the directory knows about itself. On disk it is a sealed record of JSON, readable with strings(1).
type superblock struct {
	Identity
	Created string // RFC 3339
	Boot    uint64 // starts so far
	Stored  bool   // a store was created
}

// The random part of an identity: 40 bits, enough that no two servers of one name ever meet with the same one.
const (
	randomBytes = 5
	randomChars = 8
)

// issue makes the identity of a new server, for example "s1-k3v7q2xa".
func issue(name string, random io.Reader) (cell.ServerID, error) {
	if random == nil {
		return "", invalid("no source of randomness for the new identity", "set Config.Random")
	}
	var bits [randomBytes]byte
	if _, err := io.ReadFull(random, bits[:]); err != nil {
		return "", &cell.Error{Op: "datadir.open", Kind: cell.Internal, Detail: "no randomness for the new identity", Err: err,
			Hint: "check the system's random source"}
	}
	id := cell.ServerID(name + "-" + strings.ToLower(base32.StdEncoding.EncodeToString(bits[:])))
	return id, id.Check()
}

// writeSuperblock makes the block in memory the one on disk.
func (d *Dir) writeSuperblock() error {
	text, err := json.Marshal(&d.block)
	if err != nil {
		return d.diskError("encode the superblock", err)
	}
	return d.writeSealed(superblockName, text)
}

// readSuperblock returns an os.ErrNotExist when there is none.
func (d *Dir) readSuperblock() (*superblock, error) {
	text, err := d.ReadFile(superblockName)
	if err != nil {
		return nil, err
	}
	block := &superblock{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(block)
	if err == nil {
		err = errors.Join(block.check(), block.Server.Check())
	}
	if err == nil && block.Boot == 0 {
		err = errors.New("boot number is zero")
	}
	if err != nil {
		return nil, d.refused(fmt.Sprintf("has a superblock that this version does not understand: %v", err),
			"use the version of physalia that wrote it, or a newer one")
	}
	return block, nil
}

// A sealed record is a header and a payload. The header is 20 bytes: "physalia", format, version, two zero bytes, the
// payload's length and its CRC-32C over everything before the checksum and the payload, both big endian.
const (
	magic         = "physalia" // of every file, so that a foreign one is called foreign and not damaged
	sealFormat    = 1
	sealVersion   = 1
	headerBytes   = len(magic) + 12
	fileBytesMax  = 16 << 20 // an address book of 100,000 servers has a tenth of that
	crcAt         = headerBytes - 4
	payloadSizeAt = headerBytes - 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal wraps a payload so that damage is noticed.
func seal(payload []byte) []byte {
	record := make([]byte, 0, headerBytes+len(payload))
	record = append(record, magic...)
	record = append(record, sealFormat, sealVersion, 0, 0)
	record = binary.BigEndian.AppendUint32(record, uint32(len(payload)))
	record = binary.BigEndian.AppendUint32(record, checksum(record, payload))
	return append(record, payload...)
}

// unseal returns the payload of a sealed record, or what is wrong with it.
func unseal(record []byte) ([]byte, error) {
	if len(record) < headerBytes || string(record[:len(magic)]) != magic {
		return nil, fmt.Errorf("%d bytes that do not begin like a file of physalia", len(record))
	}
	if f, v := record[len(magic)], record[len(magic)+1]; f != sealFormat || v != sealVersion {
		return nil, fmt.Errorf("format %d version %d, this version knows format %d version %d", f, v, sealFormat, sealVersion)
	}
	payload := record[headerBytes:]
	if record[len(magic)+2] != 0 || record[len(magic)+3] != 0 {
		return nil, errors.New("bytes that must be zero are not")
	}
	if size := binary.BigEndian.Uint32(record[payloadSizeAt:]); uint64(size) != uint64(len(payload)) {
		return nil, fmt.Errorf("%d bytes of content, the header says %d", len(payload), size)
	}
	if got, want := checksum(record[:crcAt], payload), binary.BigEndian.Uint32(record[crcAt:]); got != want {
		return nil, fmt.Errorf("checksum is %08x, the header says %08x", got, want)
	}
	return payload, nil
}

// checksum covers the header up to the checksum itself and the payload, so that no bit of a record is unguarded.
func checksum(header, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(header, castagnoli), castagnoli, payload)
}

// WriteFile replaces a small file of the server, for example "addresses": sealed, atomic and durable, as WriteFileAtomic
// does it. At most 16 MiB.
func (d *Dir) WriteFile(name string, content []byte) error {
	if name == superblockName || name == storeName || name == lockName {
		return invalid("file name "+name+" is reserved", "choose another name")
	}
	return d.writeSealed(name, content)
}

// writeSealed is WriteFile without the gate for names.
func (d *Dir) writeSealed(name string, content []byte) error {
	if len(content) > fileBytesMax-headerBytes {
		return &cell.Error{Op: "datadir.write", Kind: cell.TooLarge, Detail: fmt.Sprintf("file %s would have %d bytes", name, len(content)),
			Hint: fmt.Sprintf("allowed are %d", fileBytesMax-headerBytes)}
	}
	if err := WriteFileAtomic(d.fs, d.file(name), seal(content)); err != nil {
		return d.diskError("write "+name, err)
	}
	return nil
}

// ReadFile returns what WriteFile last wrote under the name. A missing file is an os.ErrNotExist, a damaged one Refused:
// it is never taken for a missing one.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	f, err := d.fs.Open(d.file(name))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		return nil, d.diskError("open "+name, err)
	}
	record, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, d.diskError("read "+name, err)
	}
	payload, err := unseal(record)
	if err != nil {
		return nil, d.refused(fmt.Sprintf("has a damaged or foreign file %s: %v", name, err),
			"restore that file; if it cannot be had, start this server as a new one on an empty directory and its nodes are replaced")
	}
	return payload, nil
}
