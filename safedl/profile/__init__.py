"""The YAML document: schema, load, save, errors a person can act on."""
