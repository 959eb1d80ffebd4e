package backups

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	tarBlock   = 512          // tar archives consist of blocks, in bytes
	tarEnd     = 2 * tarBlock // at the end of an archive are two blocks of zeros
	tarPadding = 1 << 20      // at most, after these blocks, up to the end of a record
)

// extract writes the files of an archive to a directory and syncs them. The archive is a stranger's: it may contain
// files without a directory only, and no more than the disk has room for.
func extract(archive io.Reader, dir string) error {
	stream := &countingReader{r: archive}
	files := tar.NewReader(stream)
	end := int64(0) // where the last file ends
	for {
		header, err := files.Next()
		switch {
		case errors.Is(err, io.EOF) && end == 0:
			return errors.New("the server sent an empty archive")
		case errors.Is(err, io.EOF) && stream.n < end+tarEnd:
			return stream.brokenOff(io.ErrUnexpectedEOF) // cut off between two files, which package tar accepts
		case errors.Is(err, io.EOF):
			return stream.drain()
		case err != nil:
			return stream.brokenOff(err)
		}
		end = stream.n + (header.Size+tarBlock-1)/tarBlock*tarBlock
		if err := checkFile(header, dir); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, header.Name), files, header.Size); err != nil {
			return stream.brokenOff(err)
		}
	}
}

// checkFile returns an error unless an entry of an archive can be a file of a backup.
func checkFile(header *tar.Header, dir string) error {
	name := header.Name
	plain := filepath.IsLocal(name) && name != "." && !strings.ContainsAny(name, `/\:`)
	if header.Typeflag != tar.TypeReg || !plain {
		return fmt.Errorf("the archive is no backup: it contains %q", name)
	}
	disk, err := vfs.Default.GetDiskUsage(dir)
	if err != nil {
		return err
	}
	if uint64(header.Size) > disk.AvailBytes { //nolint:gosec // package tar returns no negative size
		return fmt.Errorf("the disk of %s is full: it has room for %d bytes, but %s of the backup has %d", dir, disk.AvailBytes, name, header.Size)
	}
	return nil
}

// writeFile writes a new file of a size, and syncs it.
func writeFile(path string, from io.Reader, size int64) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(file, from, size)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// countingReader counts the bytes that are read, and remembers why reading failed.
type countingReader struct {
	r   io.Reader
	n   int64
	err error
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// drain reads up to the end, so that an archive that breaks off after its last block is noticed, too. At most the
// padding of the archive's last record may follow.
func (c *countingReader) drain() error {
	switch n, err := io.Copy(io.Discard, io.LimitReader(c, tarPadding+1)); {
	case err != nil:
		return c.brokenOff(err)
	case n > tarPadding:
		return errors.New("the server sent something that is no backup: it goes on after the end of the archive")
	}
	return nil
}

// brokenOff returns err with the advice to try again, if the archive broke off.
func (c *countingReader) brokenOff(err error) error {
	switch {
	case c.err != nil:
		return fmt.Errorf("the backup broke off: %w", c.err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the backup broke off: the archive is not complete")
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("the server sent something that is no backup: %w", err)
	}
	return err
}
