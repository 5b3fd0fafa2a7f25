BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE event (
	id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	level VARCHAR NOT NULL, 
	message VARCHAR NOT NULL, 
	CONSTRAINT pk_event PRIMARY KEY (id), 
	CONSTRAINT fk_event_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE
);
INSERT INTO "event" VALUES(1,1,'2026-11-24 22:37:05.717138','info','running');
INSERT INTO "event" VALUES(2,1,'2026-11-24 22:37:05.717179','info','completed');
INSERT INTO "event" VALUES(3,2,'2026-11-24 22:37:05.732587','info','running');
INSERT INTO "event" VALUES(4,2,'2026-11-24 22:37:05.732619','info','completed');
INSERT INTO "event" VALUES(5,3,'2026-11-24 22:37:05.733846','info','running');
INSERT INTO "event" VALUES(6,3,'2026-11-24 22:37:05.733864','error','failed: it broke');
INSERT INTO "event" VALUES(7,4,'2026-11-24 22:37:05.734665','info','cancelled');
INSERT INTO "event" VALUES(8,5,'2026-11-24 22:37:05.735067','info','skipped: clean did not complete');
INSERT INTO "event" VALUES(9,6,'2026-11-24 22:37:05.760557','info','running');
INSERT INTO "event" VALUES(10,6,'2026-11-24 22:37:05.760590','info','completed');
INSERT INTO "event" VALUES(11,7,'2026-11-24 22:37:05.778524','info','running');
INSERT INTO "event" VALUES(12,7,'2026-11-24 22:37:05.778555','info','skipped: same result as run base');
CREATE TABLE experiment (
	id INTEGER NOT NULL, 
	uid VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	profile VARCHAR, 
	profile_hash VARCHAR NOT NULL, 
	config JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	note VARCHAR, 
	CONSTRAINT pk_experiment PRIMARY KEY (id), 
	CONSTRAINT uq_experiment_uid UNIQUE (uid)
);
INSERT INTO "experiment" VALUES(1,'e1','demo','demo.yaml','h','{"a": 1}','2026-01-02 03:04:05.000006','resumed');
INSERT INTO "experiment" VALUES(2,'e2','demo','demo.yaml','h','{"a": 1}','2026-01-03 00:00:00.000000',NULL);
CREATE TABLE experiment_run (
	experiment_id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	CONSTRAINT pk_experiment_run PRIMARY KEY (experiment_id, run_id), 
	CONSTRAINT fk_experiment_run_experiment_id_experiment FOREIGN KEY(experiment_id) REFERENCES experiment (id) ON DELETE CASCADE, 
	CONSTRAINT fk_experiment_run_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "experiment_run" VALUES(1,1);
INSERT INTO "experiment_run" VALUES(1,2);
INSERT INTO "experiment_run" VALUES(1,3);
INSERT INTO "experiment_run" VALUES(1,4);
INSERT INTO "experiment_run" VALUES(1,5);
INSERT INTO "experiment_run" VALUES(1,6);
INSERT INTO "experiment_run" VALUES(2,1);
INSERT INTO "experiment_run" VALUES(2,2);
INSERT INTO "experiment_run" VALUES(2,7);
INSERT INTO "experiment_run" VALUES(2,8);
CREATE TABLE metric (
	run_id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	value FLOAT, 
	CONSTRAINT pk_metric PRIMARY KEY (run_id, name), 
	CONSTRAINT fk_metric_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "metric" VALUES(1,'asr',NULL);
INSERT INTO "metric" VALUES(1,'clean_accuracy',0.9);
INSERT INTO "metric" VALUES(1,'seconds',3.0);
INSERT INTO "metric" VALUES(2,'asr',NULL);
INSERT INTO "metric" VALUES(2,'clean_accuracy',0.9);
INSERT INTO "metric" VALUES(2,'seconds',3.0);
INSERT INTO "metric" VALUES(6,'asr',0.1);
INSERT INTO "metric" VALUES(7,'asr',0.2);
CREATE TABLE metric_point (
	run_id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	step INTEGER NOT NULL, 
	value FLOAT, 
	CONSTRAINT pk_metric_point PRIMARY KEY (run_id, name, step), 
	CONSTRAINT fk_metric_point_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "metric_point" VALUES(1,'loss',0,2.5);
INSERT INTO "metric_point" VALUES(1,'loss',1,1.5);
INSERT INTO "metric_point" VALUES(2,'loss',0,2.5);
INSERT INTO "metric_point" VALUES(2,'loss',1,1.5);
INSERT INTO "metric_point" VALUES(3,'loss',0,2.5);
INSERT INTO "metric_point" VALUES(3,'loss',1,1.5);
INSERT INTO "metric_point" VALUES(6,'loss',0,2.5);
INSERT INTO "metric_point" VALUES(6,'loss',1,1.5);
INSERT INTO "metric_point" VALUES(7,'loss',0,2.5);
INSERT INTO "metric_point" VALUES(7,'loss',1,1.5);
CREATE TABLE run (
	id INTEGER NOT NULL, 
	uid VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	stage VARCHAR NOT NULL, 
	parent_id INTEGER, 
	experiment_id INTEGER, 
	dataset VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	threat VARCHAR, 
	attack VARCHAR, 
	defense VARCHAR, 
	detector VARCHAR, 
	seed INTEGER NOT NULL, 
	status VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	retry_of INTEGER, 
	params JSON NOT NULL, 
	recipe VARCHAR NOT NULL, 
	stage_key VARCHAR NOT NULL, 
	code VARCHAR NOT NULL, 
	versions JSON NOT NULL, 
	host VARCHAR, 
	pid INTEGER, 
	device VARCHAR, 
	progress FLOAT, 
	error VARCHAR, 
	created_at DATETIME NOT NULL, 
	started_at DATETIME, 
	finished_at DATETIME, 
	CONSTRAINT pk_run PRIMARY KEY (id), 
	CONSTRAINT uq_run_uid UNIQUE (uid), 
	CONSTRAINT fk_run_parent_id_run FOREIGN KEY(parent_id) REFERENCES run (id) ON DELETE RESTRICT, 
	CONSTRAINT fk_run_experiment_id_experiment FOREIGN KEY(experiment_id) REFERENCES experiment (id) ON DELETE SET NULL, 
	CONSTRAINT fk_run_status_run_status FOREIGN KEY(status) REFERENCES run_status (name), 
	CONSTRAINT fk_run_retry_of_run FOREIGN KEY(retry_of) REFERENCES run (id)
);
INSERT INTO "run" VALUES(1,'base','baseline','baseline@0',NULL,1,'digits','cnn',NULL,NULL,NULL,NULL,0,'completed',1,NULL,'{"training.epochs": 3, "attack.poison_fraction": 0.1}','recipe-baseline','key-base','0.1.0','{"torch": "2"}','box',1,'cpu',1.0,NULL,'2026-01-02 03:04:05.000006','2026-11-24 22:37:05.717138','2026-11-24 22:37:05.717179');
INSERT INTO "run" VALUES(2,'attack','attack','attack@0',1,1,'digits','cnn','backdoor','static_patch',NULL,NULL,0,'completed',1,NULL,'{"training.epochs": 3, "attack.poison_fraction": 0.1}','recipe-attack','key-attack','0.1.0','{"torch": "2"}','box',1,'cpu',1.0,NULL,'2026-01-02 03:04:05.000006','2026-11-24 22:37:05.732587','2026-11-24 22:37:05.732619');
INSERT INTO "run" VALUES(3,'clean','defense','defense@0',2,1,'digits','cnn','backdoor','static_patch','data_cleaning',NULL,0,'failed',1,NULL,'{"training.epochs": 3, "attack.poison_fraction": 0.1}','recipe-defense','key-clean','0.1.0','{"torch": "2"}','box',1,'cpu',0.5,'it broke','2026-01-02 03:04:05.000006','2026-11-24 22:37:05.733846','2026-11-24 22:37:05.733864');
INSERT INTO "run" VALUES(4,'perfect','bound','bound@0',2,1,'digits','cnn','backdoor','static_patch','perfect_removal',NULL,0,'cancelled',1,NULL,'{"training.epochs": 3, "attack.poison_fraction": 0.1}','recipe-bound','key-perfect','0.1.0','{"torch": "2"}','box',1,'cpu',NULL,NULL,'2026-01-02 03:04:05.000006',NULL,'2026-11-24 22:37:05.734665');
INSERT INTO "run" VALUES(5,'random','bound','bound@0',2,1,'digits','cnn','backdoor','static_patch','random_removal','data_cleaning',0,'skipped',1,NULL,'{"training.epochs": 3, "attack.poison_fraction": 0.1}','recipe-bound','key-random','0.1.0','{"torch": "2"}','box',1,'cpu',NULL,'clean did not complete','2026-01-02 03:04:05.000006',NULL,'2026-11-24 22:37:05.735067');
INSERT INTO "run" VALUES(6,'clean2','defense','defense@0',2,1,'digits','cnn','backdoor','static_patch','data_cleaning',NULL,0,'completed',2,3,'{"training.epochs": 3, "attack.poison_fraction": 0.1}','recipe-defense','key-clean','0.1.0','{"torch": "2"}','box',1,'cpu',1.0,NULL,'2026-01-02 03:04:05.000006','2026-11-24 22:37:05.760557','2026-11-24 22:37:05.760590');
INSERT INTO "run" VALUES(7,'twin','baseline','baseline@0',NULL,2,'digits','cnn',NULL,NULL,NULL,NULL,0,'skipped',1,NULL,'{"training.epochs": 3, "attack.poison_fraction": 0.1}','recipe-baseline','key-base','0.1.0','{"torch": "2"}','box',1,'cpu',0.5,'same result as run base','2026-01-02 03:04:05.000006','2026-11-24 22:37:05.778524','2026-11-24 22:37:05.778555');
INSERT INTO "run" VALUES(8,'waiting','baseline','baseline@0',NULL,2,'digits','cnn',NULL,NULL,NULL,NULL,0,'queued',1,NULL,'{"training.epochs": 3, "attack.poison_fraction": 0.1}','recipe-baseline','key-waiting','0.1.0','{"torch": "2"}','box',1,'cpu',NULL,NULL,'2026-01-02 03:04:05.000006',NULL,NULL);
CREATE TABLE run_status (
	name VARCHAR NOT NULL, 
	final BOOLEAN NOT NULL, 
	ok BOOLEAN NOT NULL, 
	CONSTRAINT pk_run_status PRIMARY KEY (name)
);
INSERT INTO "run_status" VALUES('queued',0,0);
INSERT INTO "run_status" VALUES('running',0,0);
INSERT INTO "run_status" VALUES('completed',1,1);
INSERT INTO "run_status" VALUES('failed',1,0);
INSERT INTO "run_status" VALUES('cancelled',1,0);
INSERT INTO "run_status" VALUES('interrupted',1,0);
INSERT INTO "run_status" VALUES('skipped',1,0);
CREATE INDEX ix_run_cell ON run (dataset, model, attack, defense, kind);
CREATE INDEX ix_run_parent ON run (parent_id);
CREATE INDEX ix_run_status ON run (status);
CREATE INDEX ix_run_stage ON run (stage_key);
CREATE INDEX ix_run_retry ON run (retry_of);
CREATE UNIQUE INDEX uq_run_completed ON run (stage_key) WHERE status = 'completed';
CREATE INDEX ix_event_run ON event (run_id);
CREATE INDEX ix_run_recipe ON run (recipe, seed) WHERE status = 'completed';
CREATE VIEW run_metrics AS SELECT r.*,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'clean_accuracy') AS clean_accuracy,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'asr') AS asr,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'robust_accuracy') AS robust_accuracy,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'adversarial_accuracy') AS adversarial_accuracy,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'source_target_rate') AS source_target_rate,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'tpr') AS tpr,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'fpr') AS fpr,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'precision') AS precision,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'auroc') AS auroc,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'removed') AS removed,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'seconds') AS seconds,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'memory_mb') AS memory_mb,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'epsilon_spent') AS epsilon_spent,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'score.mitigation') AS mitigation,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'score.cad') AS cad,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'score.cost') AS cost,
  (SELECT value FROM metric WHERE run_id = r.id AND name = 'score.final') AS score
FROM run r;
CREATE VIEW current_run AS SELECT r.* FROM run r WHERE NOT EXISTS (SELECT 1 FROM run n WHERE n.retry_of = r.id);
CREATE VIEW attack_results AS SELECT a.id AS run_id, a.uid, a.recipe, a.dataset, a.model, a.threat, a.attack, a.seed,
  b.clean_accuracy AS clean_before, a.clean_accuracy AS clean_after,
  a.clean_accuracy - b.clean_accuracy AS clean_delta,
  a.asr, a.robust_accuracy, a.adversarial_accuracy, a.source_target_rate, a.seconds, a.memory_mb, a.finished_at
FROM run_metrics a LEFT JOIN run_metrics b ON b.id = a.parent_id
WHERE a.kind = 'attack' AND a.status = 'completed';
CREATE VIEW defense_results AS SELECT d.id AS run_id, d.uid, d.recipe, d.dataset, d.model, d.threat, d.attack,
  a.recipe AS attack_recipe, d.defense, d.seed, b.clean_accuracy AS baseline_accuracy,
  a.clean_accuracy AS clean_before, d.clean_accuracy AS clean_after, d.clean_accuracy - a.clean_accuracy AS clean_delta,
  a.asr AS asr_before, d.asr AS asr_after, d.asr - a.asr AS asr_delta,
  a.robust_accuracy AS robust_before, d.robust_accuracy AS robust_after, d.robust_accuracy - a.robust_accuracy AS robust_delta,
  a.adversarial_accuracy AS adversarial_before, d.adversarial_accuracy AS adversarial_after, d.adversarial_accuracy - a.adversarial_accuracy AS adversarial_delta,
  a.source_target_rate AS source_target_before, d.source_target_rate AS source_target_after, d.source_target_rate - a.source_target_rate AS source_target_delta,
  d.tpr, d.fpr, d.precision, d.auroc, d.removed, d.epsilon_spent,
  d.mitigation, d.cad, d.cost, d.score, d.seconds, d.memory_mb, d.finished_at
FROM run_metrics d JOIN run_metrics a ON a.id = d.parent_id LEFT JOIN run_metrics b ON b.id = a.parent_id
WHERE d.kind = 'defense' AND d.status = 'completed';
CREATE VIEW bound_results AS SELECT d.id AS run_id, d.uid, d.recipe, d.dataset, d.model, d.threat, d.attack,
  d.defense AS bound, d.detector, d.seed,
  a.clean_accuracy AS clean_before, d.clean_accuracy AS clean_after, d.clean_accuracy - a.clean_accuracy AS clean_delta,
  a.asr AS asr_before, d.asr AS asr_after, d.asr - a.asr AS asr_delta,
  a.robust_accuracy AS robust_before, d.robust_accuracy AS robust_after, d.robust_accuracy - a.robust_accuracy AS robust_delta,
  a.adversarial_accuracy AS adversarial_before, d.adversarial_accuracy AS adversarial_after, d.adversarial_accuracy - a.adversarial_accuracy AS adversarial_delta,
  a.source_target_rate AS source_target_before, d.source_target_rate AS source_target_after, d.source_target_rate - a.source_target_rate AS source_target_delta,
  d.removed, d.seconds, d.memory_mb, d.finished_at
FROM run_metrics d JOIN run_metrics a ON a.id = d.parent_id
WHERE d.kind = 'bound' AND d.status = 'completed';
CREATE VIEW newest_results AS SELECT d.* FROM defense_results d WHERE NOT EXISTS (
  SELECT 1 FROM run n
  WHERE n.recipe = d.recipe AND n.seed = d.seed AND n.kind = 'defense' AND n.status = 'completed' AND n.id > d.run_id
);
CREATE VIEW leaderboard AS SELECT recipe, dataset, model, threat, attack, attack_recipe, defense, count(*) AS seeds,
  count(score) AS scored, avg(score) AS score, min(score) AS score_min, max(score) AS score_max,
  avg(clean_delta) AS clean_delta, avg(asr_delta) AS asr_delta, avg(robust_delta) AS robust_delta, avg(adversarial_delta) AS adversarial_delta, avg(seconds) AS seconds,
  CASE WHEN avg(score) IS NOT NULL
    THEN rank() OVER (PARTITION BY dataset, model, attack, attack_recipe ORDER BY avg(score) DESC) END AS place
FROM newest_results
GROUP BY recipe, dataset, model, threat, attack, attack_recipe, defense;
CREATE VIEW run_param AS SELECT r.id AS run_id, replace(substr(j.fullkey, 3), '"', '') AS name, j.atom AS value
FROM run r, json_tree(r.params) j WHERE j.atom IS NOT NULL;
CREATE VIEW open_runs AS SELECT r.id, r.uid, e.uid AS experiment, r.kind, r.attack, r.defense, r.status, r.host, r.pid,
  r.progress, r.created_at, r.started_at
FROM run r LEFT JOIN experiment e ON e.id = r.experiment_id
WHERE r.status IN (SELECT name FROM run_status WHERE NOT final);
COMMIT;
