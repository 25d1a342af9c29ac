package audit

// ArchiveSum returns the length and the SHA-256 that the manifest beside the file of an
// archive tells of it; nothing where there is none that can be read, or the file is no
// archive.
func ArchiveSum(dir, file string) (size int64, sha256 string) {
	if _, ok := readName(file); !ok {
		return 0, ""
	}
	m, err := ReadManifest(dir, file)
	if m == nil || err != nil {
		return 0, ""
	}
	return m.Bytes, m.SHA256
}
