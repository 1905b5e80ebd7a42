-- As of the plan store on SQLite (`sqlite/schema.sql`), in its own database: the control plane is its own service.
CREATE TABLE IF NOT EXISTS head (
    only_row   TINYINT PRIMARY KEY CHECK (only_row = 1),
    generation BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
INSERT IGNORE INTO head (only_row, generation) VALUES (1, 0);

CREATE TABLE IF NOT EXISTS leader (
    only_row   TINYINT PRIMARY KEY CHECK (only_row = 1),
    term       BIGINT NOT NULL,
    holder     VARCHAR(128),
    url        VARCHAR(512) NOT NULL,
    beat       BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL,
    revision   BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
INSERT IGNORE INTO leader (only_row, term, holder, url, beat, renewed_at, revision) VALUES (1, 0, NULL, '', 0, 0, 0);

CREATE TABLE IF NOT EXISTS plan (
    product  VARCHAR(64) PRIMARY KEY,
    decision MEDIUMTEXT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS generation (
    generation BIGINT PRIMARY KEY,
    at         BIGINT NOT NULL,
    term       BIGINT NOT NULL,
    products   BIGINT NOT NULL,
    tiers      VARCHAR(128) NOT NULL,
    KEY generation_at (at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS delta (
    product    VARCHAR(64) NOT NULL,
    generation BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    decision   MEDIUMTEXT NOT NULL,
    PRIMARY KEY (product, generation),
    KEY delta_at (at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS tier_override (
    product  VARCHAR(64) PRIMARY KEY,
    decision MEDIUMTEXT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS pause (
    kind VARCHAR(16) NOT NULL,
    name VARCHAR(64) NOT NULL,
    told MEDIUMTEXT NOT NULL,
    PRIMARY KEY (kind, name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS setting (
    name  VARCHAR(32) PRIMARY KEY,
    value MEDIUMTEXT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS policy (
    version BIGINT AUTO_INCREMENT PRIMARY KEY,
    at      BIGINT NOT NULL,
    by_whom VARCHAR(128) NOT NULL,
    why     VARCHAR(2048) NOT NULL,
    policy  MEDIUMTEXT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Never changed, never deleted. All commits hold the leader's row, so ids become visible in their order.
CREATE TABLE IF NOT EXISTS audit (
    id           BIGINT AUTO_INCREMENT PRIMARY KEY,
    at           BIGINT NOT NULL,
    actor        VARCHAR(128) NOT NULL,
    action       VARCHAR(32) NOT NULL,
    product      VARCHAR(64),
    before_value MEDIUMTEXT,
    after_value  MEDIUMTEXT,
    why          VARCHAR(2048) NOT NULL,
    generation   BIGINT NOT NULL,
    KEY audit_at (at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
