package config_test

import (
	"fmt"
	"os"
	"time"

	"github.com/eiderdb/eider/core/config"
)

// backup is a section as a package declares it: defaults, names, descriptions.
type backup struct {
	Folder string          `koanf:"folder" doc:"Where backups go"`
	Every  config.Duration `koanf:"every" doc:"Pause between two backups"`
	Key    string          `koanf:"key" secret:"true" doc:"Encrypts them"`
}

func (b *backup) Validate() error {
	if time.Duration(b.Every) < time.Hour {
		return fmt.Errorf("every must be at least 1h")
	}
	return nil
}

func Example() {
	b := backup{Folder: "backups", Every: config.Duration(24 * time.Hour)}
	set := config.New()
	set.Section("backup", &b)
	load := func(environ ...string) error { return set.Load(config.Sources{Environ: environ}) }

	fmt.Println(load("EIDER_BACKUP_FOLDR=/mnt", "EIDER_BACKUP_EVERY=soon"))
	fmt.Println(load("EIDER_BACKUP_EVERY=1m"))
	fmt.Println(load("EIDER_BACKUP_EVERY=7d", "EIDER_BACKUP_KEY=correct horse"))
	set.Print(os.Stdout)
	// Output:
	// unknown setting EIDER_BACKUP_FOLDR (env): did you mean EIDER_BACKUP_FOLDER?
	// backup.every (env EIDER_BACKUP_EVERY): must be a duration such as 30s or 7d
	// backup.every must be at least 1h
	// <nil>
	// backup.every   7d        env EIDER_BACKUP_EVERY
	// backup.folder  backups   default
	// backup.key     ********  env EIDER_BACKUP_KEY
}
